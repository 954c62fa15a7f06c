//! Duties of every library.

use super::{Outcome, Report};
use crate::plugin::inspect::Inspected;
use crate::plugin::schema;
use object::{Object, ObjectSymbol};
use serde_json::{Value, json};

pub(super) const OPENS: &str =
    "it loads, its types are laid out as the API's, it describes itself and opens";

pub(super) fn check(report: &mut Report, plugin: &Inspected) {
    let manifest = &plugin.manifest;
    let missing: Vec<_> = [
        ("description", &manifest.summary),
        ("license", &manifest.license),
        ("homepage", &manifest.homepage),
    ]
    .into_iter()
    .filter(|(_, value)| value.is_empty())
    .map(|(name, _)| name)
    .collect();
    report.should(
        "L-02",
        "its Cargo.toml says what it is: description, license, homepage",
        Outcome::kept_if(missing.is_empty(), || {
            format!("missing: {}", missing.join(", "))
        }),
    );
    report.should(
        "L-03",
        "it exports its entry and no other symbol",
        Outcome::of(exports(plugin)),
    );
}

fn exports(plugin: &Inspected) -> Result<(), String> {
    let library = object::File::parse(&*plugin.bytes).map_err(|error| error.to_string())?;
    let entry = &plugin.manifest.entry;
    let others: Vec<_> = library
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| name != entry)
        .take(4)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(format!("it also exports {}", others.join(", ")))
}

/// The duties of a description's two schemas.
pub(super) fn check_schemas(report: &mut Report, config: Option<&Value>, options: Option<&Value>) {
    let mut worst = Outcome::Kept;
    for (name, schema) in [("config_schema", config), ("options_schema", options)] {
        let Some(schema) = schema else { continue };
        let stranger = json!({"berth-plugin-check": true});
        match schema::check(schema, &stranger, name) {
            Err(schema::Mismatch::Schema(message)) => {
                worst = Outcome::Broken(format!("{name} is no JSON Schema: {message}"));
                break;
            }
            Err(schema::Mismatch::Value(_)) => {}
            Ok(()) => {
                worst = Outcome::Broken(format!(
                    "{name} takes fields that it does not name; say \"additionalProperties\": false, so that a slip of \
                     the pen is found"
                ));
            }
        }
    }
    report.should(
        "L-05",
        "its schemas are JSON Schemas and refuse what they do not name",
        worst,
    );
}
