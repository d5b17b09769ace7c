//! `kittiwake check alerts`: Alertmanager's files, as amtool checks them.

use std::path::PathBuf;

use anyhow::Result;
use kittiwake_alertmanager::Config;
use kittiwake_alertmanager::template::Templates;
use kittiwake_config::glob::matching_files;

use crate::tsdb_command::say;

/// Checks each file and says what is in it; the exit code.
pub(crate) fn run(files: &[PathBuf]) -> Result<u8> {
    let mut failed = 0;
    for file in files {
        say(&format!("Checking '{}'", file.display()))?;
        match alerts_found(file) {
            Ok(found) => say(&format!("  SUCCESS\n{found}"))?,
            Err(error) => {
                failed += 1;
                say(&format!("  FAILED: {error}\n"))?;
            }
        }
    }
    Ok(u8::from(failed > 0))
}

fn alerts_found(file: &std::path::Path) -> Result<String> {
    let config = Config::load(file)?;
    let mut templates = 0;
    for pattern in &config.templates {
        templates += matching_files(pattern)?.len();
    }
    Templates::load(&config.templates)?;
    let warnings: String = config
        .warnings
        .iter()
        .map(|warning| format!(" - {warning}\n"))
        .collect::<Vec<_>>()
        .concat();
    Ok(format!(
        "Found:\n - global config\n - route\n - {} inhibit rules\n - {} receivers\n - {templates} templates\n{warnings}",
        config.inhibit_rules.len(),
        config.receivers.len(),
    ))
}
