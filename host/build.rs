//! Lets the page be embedded: its folder has to be there, and its change has to be seen.

fn main() -> std::io::Result<()> {
    std::fs::create_dir_all("web/dist")?;
    println!("cargo::rerun-if-changed=web/dist");
    Ok(())
}
