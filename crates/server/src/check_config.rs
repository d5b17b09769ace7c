//! What `kittiwake check config` looks at beyond the file itself: rule files, lists of targets,
//! credentials and certificates that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_config::http_client::Auth;
use kittiwake_config::{
    FileDiscovery, HttpClient, PrometheusConfig, ScrapeConfig, SecretSource, TargetGroup, glob,
    read_target_groups,
};
use kittiwake_sources::scrape::check_group;

/// What was found in a configuration.
pub(crate) struct Found {
    pub(crate) rule_files: Vec<PathBuf>,
    config: PrometheusConfig,
}

impl Found {
    /// The first job that scrapes so seldom that its series are stale in between.
    pub(crate) fn too_long(&self, lookback: Duration) -> Option<&ScrapeConfig> {
        let mut jobs = self.config.scrape_configs.iter();
        jobs.find(|job| job.scrape_interval >= lookback)
    }
}

/// Checks a file and says how that went.
pub(crate) fn check(file: &Path, is_agent: bool, syntax_only: bool) -> Result<Found, ()> {
    println!("Checking {}", file.display());
    let checked = checked(file, is_agent, syntax_only);
    let outcome = match checked {
        Ok(found) => {
            for what in &found.config.unsupported {
                println!("  WARNING: {what} is checked, but not obeyed yet");
            }
            if !found.rule_files.is_empty() {
                println!("  SUCCESS: {} rule files found", found.rule_files.len());
            }
            let file = file.display();
            println!(" SUCCESS: {file} is valid prometheus config file syntax");
            Ok(found)
        }
        Err(error) => {
            eprintln!("  FAILED: {error}");
            Err(())
        }
    };
    println!();
    outcome
}

fn checked(file: &Path, is_agent: bool, syntax_only: bool) -> Result<Found, String> {
    let loaded = if syntax_only {
        PrometheusConfig::load_alone(file)
    } else {
        PrometheusConfig::load(file)
    };
    let config = loaded.map_err(|error| error.to_string())?;
    if is_agent {
        check_agent(&config)?;
    }
    let rule_files = if syntax_only {
        Vec::new()
    } else {
        rule_files(&config)?
    };
    for job in &config.scrape_configs {
        check_job(job, syntax_only)?;
    }
    for one in &config.alerting.alertmanagers {
        let check = |group: &TargetGroup| one.endpoints(group).map(|_| ());
        one.static_configs.iter().try_for_each(check)?;
        if syntax_only {
            continue;
        }
        let place = "alertmanager config";
        check_lists(&one.file_sd_configs, place, |groups| {
            groups.iter().try_for_each(check)
        })?;
    }
    Ok(Found { rule_files, config })
}

fn check_agent(config: &PrometheusConfig) -> Result<(), String> {
    let alerting = &config.alerting;
    let has_alerting =
        !alerting.alertmanagers.is_empty() || !alerting.alert_relabel_configs.is_empty();
    for (field, is_set) in [
        ("alerting", has_alerting),
        ("rule_files", !config.rule_files.is_empty()),
        ("remote_read", !config.remote_read.is_empty()),
    ] {
        if is_set {
            return Err(format!("field {field} is not allowed in agent mode"));
        }
    }
    Ok(())
}

fn rule_files(config: &PrometheusConfig) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for pattern in &config.rule_files {
        let found = glob::matching_files(pattern);
        let found = found.map_err(|error| format!("{}: {error}", pattern.display()))?;
        if found.is_empty() && !pattern.to_string_lossy().contains('*') {
            let pattern = kittiwake_model::quote(&pattern.to_string_lossy());
            return Err(format!("{pattern} does not point to an existing file"));
        }
        all.extend(found);
    }
    Ok(all)
}

fn check_job(job: &ScrapeConfig, syntax_only: bool) -> Result<(), String> {
    let check = |groups: &[TargetGroup]| {
        for (number, group) in groups.iter().enumerate() {
            check_group(job, group).map_err(|(instance, why)| {
                format!("instance {instance} in group {number}: {why}")
            })?;
        }
        Ok(())
    };
    check(&job.static_configs)?;
    if syntax_only {
        return Ok(());
    }
    if let Some(Auth::Token { credentials, .. }) = &job.http.auth {
        exists(
            credentials,
            "authorization credentials or bearer token file",
        )?;
    }
    check_tls(&job.http)?;
    for other in &job.other_sd_configs {
        if other.section == "kubernetes_sd_configs" {
            check_tls(&other.http)?;
        }
    }
    let place = format!("scrape job {}", kittiwake_model::quote(&job.job_name));
    check_lists(&job.file_sd_configs, &place, check)
}

fn check_tls(http: &HttpClient) -> Result<(), String> {
    if let Some((cert, key)) = &http.tls.identity {
        exists(cert, "client cert file")?;
        exists(key, "client key file")?;
    }
    Ok(())
}

fn exists(secret: &SecretSource, what: &str) -> Result<(), String> {
    let SecretSource::File(file) = secret else {
        return Ok(());
    };
    match std::fs::metadata(file) {
        Ok(_) => Ok(()),
        Err(error) => {
            let name = file.display();
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            let quoted = kittiwake_model::quote(&file.to_string_lossy());
            Err(format!(
                "error checking {what} {quoted}: stat {name}: {why}"
            ))
        }
    }
}

/// Checks the files of a discovery by files.
fn check_lists(
    discoveries: &[FileDiscovery],
    place: &str,
    check: impl Fn(&[TargetGroup]) -> Result<(), String>,
) -> Result<(), String> {
    for pattern in discoveries.iter().flat_map(|discovery| &discovery.files) {
        let quoted = kittiwake_model::quote(&pattern.to_string_lossy());
        let found = glob::matching_files(pattern).map_err(|error| format!("{quoted}: {error}"))?;
        if found.is_empty() {
            let kind = "file_sd in";
            println!("  WARNING: file {quoted} for {kind} {place} does not exist");
        }
        for file in found {
            let groups = read_target_groups(&file)
                .map_err(|error| format!("checking SD file {quoted}: {error}"))?;
            check(&groups)?;
        }
    }
    Ok(())
}
