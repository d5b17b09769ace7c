//! The example files of `config/` load.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use kittiwake_config::{PrometheusConfig, WebConfig};

#[test]
fn each_example_file_loads() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut loaded = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
        match extension.as_deref() {
            Some("yml") if name == "web.yml" => {
                let web = WebConfig::load(&path).unwrap();
                assert!(web.has_access_rules());
            }
            Some("yml") => {
                let config = PrometheusConfig::load(&path).unwrap();
                assert_eq!(config.unsupported, Vec::<String>::new(), "{name}");
                assert!(!config.scrape_configs.is_empty(), "{name}");
            }
            Some("service") => {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.contains("kittiwake-collector --server "), "{name}");
            }
            _ => panic!("config/{name} is not loaded by this test"),
        }
        loaded += 1;
    }
    assert!(loaded >= 3, "{loaded} files");
}
