//! The rules that a new session has to keep, each told by the field that breaks it.

use super::record::{Spec, SpecRepository};
use super::settings::AUTO_BACKEND;
use super::shared::Shared;
use super::{NewRepository, NewSession, Result, SessionError, SessionName};
use crate::files::FilesError;
use crate::git::{GitError, GitErrorKind, mount_names};
use berth_plugin_api::doc::Filesystem;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const MAX_REPOSITORIES: usize = 5;
const MAX_IMAGES: usize = 20;
const MAX_TAGS: usize = 50;
const MAX_TAG: usize = 100;
const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 10_000;
const MAX_VARIABLES: usize = 500;
/// A name made of a text takes no more of it.
const MADE_NAME: usize = 40;

/// A request that keeps all rules.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) backend: String,
    pub(super) agent: String,
    pub(super) prompt: String,
    pub(super) spec: Spec,
    pub(super) secrets: BTreeMap<String, String>,
    /// The name that was asked for, or candidates to make one of.
    pub(super) name: Naming,
}

/// How the session gets its name.
#[derive(Debug)]
pub(super) enum Naming {
    Given(SessionName),
    /// Made of the first of these that holds a letter or digit.
    Made(SessionName),
}

/// Checks a request against every rule that can be checked at once.
pub(super) async fn check(shared: &Shared, new: &NewSession) -> Result<Checked> {
    let given_name = new
        .name
        .as_deref()
        .map(SessionName::parse)
        .transpose()
        .map_err(|error| SessionError::invalid("name", error.to_string()))?;
    check_metadata(new.title.as_deref(), new.description.as_deref(), &new.tags)?;
    check_env(new)?;
    check_resources(new)?;
    let agent = check_agent(shared, new)?;
    let asked = asked_repositories(new)?;
    let backend = check_backend(shared, new).await?;
    let repositories = check_repositories(shared, new, &asked).await?;
    let mut images = Vec::new();
    for (index, path) in new.image_paths.iter().enumerate() {
        images.push(check_image(shared, index, path)?);
    }
    let name = match given_name {
        Some(name) => Naming::Given(name),
        None => Naming::Made(made_name(new, &repositories)),
    };
    let new = NewSession {
        image_paths: images,
        backend_options: Some(new.backend_options.clone().unwrap_or_else(empty)),
        agent_options: Some(new.agent_options.clone().unwrap_or_else(empty)),
        ..new.clone()
    };
    let (spec, secrets) = Spec::of(&new, repositories);
    Ok(Checked {
        backend,
        agent,
        prompt: new.prompt.unwrap_or_default(),
        spec,
        secrets,
        name,
    })
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Title, description and tags, here and in later changes.
pub(super) fn check_metadata(
    title: Option<&str>,
    description: Option<&str>,
    tags: &[String],
) -> Result<()> {
    let too_long = |field: &str, limit: usize| {
        SessionError::invalid(field, format!("must have at most {limit} characters"))
    };
    if title.is_some_and(|title| title.chars().count() > MAX_TITLE) {
        return Err(too_long("title", MAX_TITLE));
    }
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
        return Err(too_long("description", MAX_DESCRIPTION));
    }
    if tags.len() > MAX_TAGS {
        return Err(SessionError::invalid(
            "tags",
            format!("there may be at most {MAX_TAGS}"),
        ));
    }
    for (index, tag) in tags.iter().enumerate() {
        let field = format!("tags[{index}]");
        if tag.trim().is_empty() {
            return Err(SessionError::invalid(field, "must not be empty"));
        }
        if tag.chars().count() > MAX_TAG {
            return Err(too_long(&field, MAX_TAG));
        }
    }
    Ok(())
}

fn check_env(new: &NewSession) -> Result<()> {
    if new.env.len() > MAX_VARIABLES {
        return Err(SessionError::invalid(
            "env",
            format!("there may be at most {MAX_VARIABLES} variables"),
        ));
    }
    for (name, value) in &new.env {
        let mut characters = name.chars();
        let fits = characters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|rest| rest.is_ascii_alphanumeric() || rest == '_');
        if !fits {
            return Err(SessionError::invalid(
                "env",
                format!("{name:?} is no name of a variable"),
            ));
        }
        if value.value().contains('\0') {
            return Err(SessionError::invalid(
                format!("env.{name}"),
                "must not hold NUL",
            ));
        }
    }
    Ok(())
}

fn check_resources(new: &NewSession) -> Result<()> {
    if let Some(cpu) = new.resources.cpu
        && !(cpu.is_finite() && cpu > 0.0)
    {
        return Err(SessionError::invalid("resources.cpu", "must be above 0"));
    }
    if new.resources.memory_bytes == Some(0) {
        return Err(SessionError::invalid(
            "resources.memory_bytes",
            "must be above 0",
        ));
    }
    Ok(())
}

fn check_agent(shared: &Shared, new: &NewSession) -> Result<String> {
    let name = new
        .agent
        .clone()
        .unwrap_or_else(|| shared.settings.default_agent.clone());
    let Some(agent) = shared.drivers.agents.get(&name) else {
        return Err(not_loaded("agent", &name, shared.drivers.agents.keys()));
    };
    let description = agent.description();
    if new.prompt.is_none() && !description.capabilities.prompt_optional {
        return Err(SessionError::invalid(
            "prompt",
            format!("is required by the agent {name} (an empty one starts it idle)"),
        ));
    }
    if new
        .prompt
        .as_deref()
        .is_some_and(|prompt| prompt.contains('\0'))
    {
        return Err(SessionError::invalid("prompt", "must not hold NUL"));
    }
    if !new.image_paths.is_empty() && !description.capabilities.images {
        return Err(SessionError::invalid(
            "image_paths",
            format!("the agent {name} takes no images"),
        ));
    }
    check_options(
        "agent_options",
        new.agent_options.as_ref(),
        description.options_schema.as_ref(),
    )?;
    Ok(name)
}

async fn check_backend(shared: &Shared, new: &NewSession) -> Result<String> {
    let name = match &new.backend {
        Some(name) => name.clone(),
        None => default_backend(shared).await?,
    };
    let (Some(driver), Some(watch)) = (
        shared.drivers.backends.get(&name),
        shared.backends.get(&name),
    ) else {
        return Err(not_loaded("backend", &name, shared.drivers.backends.keys()));
    };
    let description = driver.description();
    if new.image.is_some() && !description.capabilities.image {
        return Err(SessionError::invalid(
            "image",
            format!("the backend {name} runs no images"),
        ));
    }
    if new.resources != super::NewResources::default() && !description.capabilities.resources {
        return Err(SessionError::invalid(
            "resources",
            format!("the backend {name} keeps no limits"),
        ));
    }
    check_options(
        "backend_options",
        new.backend_options.as_ref(),
        description.options_schema.as_ref(),
    )?;
    if let Some(reason) = watch.known().await.unreachable {
        return Err(SessionError::BackendUnavailable {
            backend: name,
            reason,
        });
    }
    Ok(name)
}

/// The backend of sessions that name none: with `auto` the first that can be used and has places of its own, else the
/// first that can be used.
pub(super) async fn default_backend(shared: &Shared) -> Result<String> {
    let configured = &shared.settings.default_backend;
    if configured != AUTO_BACKEND {
        return Ok(configured.clone());
    }
    let mut usable = Vec::new();
    for (name, watch) in &shared.backends {
        if watch.known().await.unreachable.is_none() {
            usable.push(name);
        }
    }
    let with_places =
        usable.iter().find(|name| {
            shared.drivers.backends.get(**name).is_some_and(|driver| {
                driver.description().capabilities.filesystem == Filesystem::Bind
            })
        });
    with_places
        .or(usable.first())
        .map(|name| (*name).clone())
        .ok_or_else(|| SessionError::BackendUnavailable {
            backend: AUTO_BACKEND.to_owned(),
            reason: "no backend can be used".to_owned(),
        })
}

fn not_loaded<'a>(
    field: &str,
    name: &str,
    loaded: impl Iterator<Item = &'a String>,
) -> SessionError {
    let loaded: Vec<&str> = loaded.map(String::as_str).collect();
    let message = if loaded.is_empty() {
        format!("no {field} '{name}' is loaded, nor any other")
    } else {
        format!(
            "no {field} '{name}' is loaded; loaded: {}",
            loaded.join(", ")
        )
    };
    SessionError::invalid(field, message)
}

/// Checks options against the schema that the plugin gave for them.
fn check_options(field: &str, given: Option<&Value>, schema: Option<&Value>) -> Result<()> {
    let none = empty();
    let given = given.unwrap_or(&none);
    if !given.is_object() {
        return Err(SessionError::invalid(field, "must be an object"));
    }
    let Some(schema) = schema else {
        let none = given.as_object().is_none_or(serde_json::Map::is_empty);
        return if none {
            Ok(())
        } else {
            Err(SessionError::invalid(field, "this plugin has no options"))
        };
    };
    let validator = jsonschema::validator_for(schema).map_err(|error| {
        SessionError::Internal(format!("the plugin's schema of {field} is wrong: {error}"))
    })?;
    let Some(error) = validator.iter_errors(given).next() else {
        return Ok(());
    };
    let pointer = error.instance_path().to_string();
    let path =
        pointer
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(field.to_owned(), |path, part| {
                if part.bytes().all(|byte| byte.is_ascii_digit()) {
                    format!("{path}[{part}]")
                } else {
                    format!("{path}.{part}")
                }
            });
    Err(SessionError::invalid(path, error.to_string()))
}

/// A repository that was asked for, and the field that did.
struct Asked {
    repository: NewRepository,
    field: String,
}

fn asked_repositories(new: &NewSession) -> Result<Vec<Asked>> {
    match (&new.repo_path, &new.repositories) {
        (Some(path), None) => Ok(vec![Asked {
            repository: NewRepository {
                path: path.clone(),
                mount_name: None,
                base_branch: None,
            },
            field: "repo_path".to_owned(),
        }]),
        (None, Some(repositories)) => {
            if !(1..=MAX_REPOSITORIES).contains(&repositories.len()) {
                return Err(SessionError::invalid(
                    "repositories",
                    format!(
                        "must be 1 to {MAX_REPOSITORIES}, not {}",
                        repositories.len()
                    ),
                ));
            }
            Ok(repositories
                .iter()
                .enumerate()
                .map(|(index, repository)| Asked {
                    repository: repository.clone(),
                    field: format!("repositories[{index}].path"),
                })
                .collect())
        }
        (Some(_), Some(_)) => Err(SessionError::invalid(
            "repo_path",
            "exactly one of repo_path and repositories is to be given, not both",
        )),
        (None, None) => Err(SessionError::invalid(
            "repo_path",
            "exactly one of repo_path and repositories is to be given",
        )),
    }
}

async fn check_repositories(
    shared: &Shared,
    new: &NewSession,
    asked: &[Asked],
) -> Result<Vec<SpecRepository>> {
    let mut folders = Vec::new();
    for asked in asked {
        let refused = |error: FilesError| path_refused(&asked.field, &error);
        let resolved = shared
            .roots
            .resolve(&asked.repository.path)
            .map_err(refused)?;
        let found = shared
            .git
            .inspect(&resolved)
            .await
            .map_err(|error| repository_refused(&asked.field, &error))?;
        for folder in found.folders() {
            shared.roots.check(folder).map_err(refused)?;
        }
        let own_base = asked.repository.base_branch.as_deref();
        if let Some(base) = own_base.or(new.base_branch.as_deref()) {
            let field = match own_base {
                Some(_) => asked.field.replace(".path", ".base_branch"),
                None => "base_branch".to_owned(),
            };
            let checked = shared.git.check_base(&found, base).await;
            checked.map_err(|error| repository_refused(&field, &error))?;
        }
        let folder = resolved
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        folders.push(folder);
    }
    let names = mount_names(
        folders
            .iter()
            .zip(asked)
            .map(|(folder, asked)| (folder.as_str(), asked.repository.mount_name.as_deref())),
    )
    .map_err(|error| {
        SessionError::invalid(
            format!("repositories[{}].mount_name", error.index),
            error.reason,
        )
    })?;
    Ok(asked
        .iter()
        .zip(names)
        .map(|(asked, mount_name)| SpecRepository {
            path: asked.repository.path.clone(),
            mount_name,
            base_branch: asked
                .repository
                .base_branch
                .clone()
                .or_else(|| new.base_branch.clone()),
        })
        .collect())
}

fn path_refused(field: &str, error: &FilesError) -> SessionError {
    match error {
        FilesError::Forbidden { .. } => SessionError::Forbidden(format!("{field}: {error}")),
        FilesError::Invalid { .. } => SessionError::invalid(field, error.to_string()),
    }
}

fn repository_refused(field: &str, error: &GitError) -> SessionError {
    match error.kind() {
        GitErrorKind::Invalid => SessionError::invalid(field, error.to_string()),
        GitErrorKind::Conflict => SessionError::Conflict(error.to_string()),
        GitErrorKind::Failed => SessionError::Internal(error.to_string()),
    }
}

fn check_image(shared: &Shared, index: usize, path: &str) -> Result<String> {
    let field = format!("image_paths[{index}]");
    if index >= MAX_IMAGES {
        return Err(SessionError::invalid(
            "image_paths",
            format!("there may be at most {MAX_IMAGES}"),
        ));
    }
    let resolved = shared
        .roots
        .resolve(path)
        .map_err(|error| path_refused(&field, &error))?;
    if !resolved.is_file() {
        return Err(SessionError::invalid(field, format!("{path} is no file")));
    }
    if std::fs::File::open(&resolved).is_err() {
        return Err(SessionError::invalid(
            field,
            format!("{path} cannot be read"),
        ));
    }
    Ok(resolved.display().to_string())
}

/// A name of the title, the prompt or the first folder; whichever comes first and holds a letter or digit.
fn made_name(new: &NewSession, repositories: &[SpecRepository]) -> SessionName {
    let folder = repositories.first().map(|repository| {
        Path::new(&repository.path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    });
    [new.title.clone(), new.prompt.clone(), folder]
        .into_iter()
        .flatten()
        .find_map(|text| {
            let slug = SessionName::slug(&text)?;
            Some(shortened(&slug, MADE_NAME))
        })
        .unwrap_or_else(SessionName::fallback)
}

/// A name of at most so many characters, cut between words where there are several.
fn shortened(name: &SessionName, limit: usize) -> SessionName {
    let text = name.as_str();
    if text.len() <= limit {
        return name.clone();
    }
    let cut = match text[..=limit].rfind('-') {
        Some(end) if end > 0 => &text[..end],
        _ => &text[..limit],
    };
    SessionName::slug(cut).unwrap_or_else(|| name.clone())
}

/// The `number`th name of a kind: the name itself, then `-2`, `-3` …
pub(super) fn numbered(name: &SessionName, number: u32) -> SessionName {
    if number < 2 {
        return name.clone();
    }
    let suffix = format!("-{number}");
    let keep = SessionName::MAX_LEN - suffix.len();
    let text = name.as_str();
    let head = text[..text.len().min(keep)].trim_end_matches('-');
    SessionName::parse(&format!("{head}{suffix}")).unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_there_is() {
        let check = |title: Option<&str>, prompt: Option<&str>, path: &str, expected: &str| {
            let new = NewSession {
                title: title.map(str::to_owned),
                prompt: prompt.map(str::to_owned),
                ..NewSession::default()
            };
            let repositories = [SpecRepository {
                path: path.to_owned(),
                ..SpecRepository::default()
            }];
            assert_eq!(made_name(&new, &repositories).as_str(), expected);
        };
        check(Some("A title"), Some("prompt"), "/x/y", "a-title");
        check(None, Some("Fix the login bug"), "/x/y", "fix-the-login-bug");
        check(None, Some(""), "/x/My App", "my-app");
        check(None, Some("ä"), "/", "session");
        check(
            None,
            Some("please look at every file and tell what is wrong"),
            "/x",
            "please-look-at-every-file-and-tell-what",
        );
        check(None, Some(&"x".repeat(80)), "/x", &"x".repeat(40));
    }

    #[test]
    fn numbered_names_fit() {
        let name = |text: &str| SessionName::parse(text).unwrap();
        assert_eq!(numbered(&name("a"), 1).as_str(), "a");
        assert_eq!(numbered(&name("a"), 2).as_str(), "a-2");
        assert_eq!(
            numbered(&name(&"a".repeat(63)), 10).as_str(),
            format!("{}-10", "a".repeat(60))
        );
    }

    #[test]
    fn options_are_checked_by_their_schema() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {"n": {"type": "array", "items": {"type": "integer"}}},
            "additionalProperties": false
        });
        let field = |given: Value, schema: Option<&Value>| match check_options(
            "agent_options",
            Some(&given),
            schema,
        ) {
            Ok(()) => None,
            Err(SessionError::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(field(serde_json::json!({"n": [1]}), Some(&schema)), None);
        assert_eq!(
            field(serde_json::json!({"n": [1, "x"]}), Some(&schema)).as_deref(),
            Some("agent_options.n[1]")
        );
        assert_eq!(
            field(serde_json::json!({"m": 1}), Some(&schema)).as_deref(),
            Some("agent_options")
        );
        assert_eq!(
            field(serde_json::json!([]), None).as_deref(),
            Some("agent_options")
        );
        assert_eq!(field(serde_json::json!({}), None), None);
    }
}
