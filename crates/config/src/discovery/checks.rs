//! What Prometheus asks of each discovery's settings, in its words.

use crate::url::scheme_and_host;
use crate::yaml::Node;

/// An entry of a section.
pub(super) struct Entry {
    /// The settings of the HTTP client that are given.
    pub(super) http: Vec<&'static str>,
    /// All others.
    pub(super) fields: Node,
}

type Checked = Result<(), String>;

impl Entry {
    fn text(&self, name: &str) -> &str {
        self.fields.field(name)
    }

    fn is_empty(&self, name: &str) -> bool {
        self.text(name).is_empty()
    }

    /// Refuses an empty field.
    fn needs(&self, name: &str, otherwise: &str) -> Checked {
        if self.is_empty(name) {
            return Err(otherwise.to_owned());
        }
        Ok(())
    }

    fn list(&self, name: &str) -> &[Node] {
        self.fields.get(name).map_or(&[], Node::items)
    }

    fn has_http(&self, name: &str) -> bool {
        self.http.contains(&name)
    }

    /// Refuses a field that is neither missing nor one of these.
    fn one_of(&self, name: &str, allowed: &[&str], otherwise: &str) -> Checked {
        let given = self.text(name);
        if self.fields.has(name) && !allowed.contains(&given) {
            let given = kittiwake_model::quote(given);
            return Err(format!(
                "{otherwise} {given}; known are {}",
                allowed.join(", ")
            ));
        }
        Ok(())
    }

    fn web_address(&self, name: &str) -> Checked {
        self.needs(name, "URL is missing")?;
        let given = kittiwake_model::quote(self.text(name));
        let (scheme, host) =
            scheme_and_host(self.text(name)).ok_or_else(|| format!("{given} is no URL"))?;
        if scheme != "http" && scheme != "https" {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        }
        if host.is_empty() {
            return Err("host is missing in URL".to_owned());
        }
        Ok(())
    }

    fn address(&self, name: &str, otherwise: &str) -> Checked {
        match scheme_and_host(self.text(name)) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{otherwise} {}",
                kittiwake_model::quote(self.text(name))
            )),
        }
    }

    /// Whether the time between two looks is given as none.
    fn has_zero_interval(&self) -> bool {
        let given = self.text("refresh_interval");
        let is_zero = crate::duration::parse_duration(given).is_ok_and(|given| given.is_zero());
        self.fields.has("refresh_interval") && (given.is_empty() || is_zero)
    }

    fn one_secret(&self) -> Checked {
        match (
            self.is_empty("secret_key"),
            self.is_empty("secret_key_file"),
        ) {
            (true, true) => {
                Err("one of secret_key & secret_key_file must be configured".to_owned())
            }
            (false, false) => {
                Err("at most one of secret_key & secret_key_file must be configured".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "one of many checks")]
pub(super) fn anything(_: &Entry) -> Checked {
    Ok(())
}

pub(super) fn aws(entry: &Entry) -> Checked {
    let roles = ["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"];
    if !roles.contains(&entry.text("role")) {
        let role = kittiwake_model::quote(entry.text("role"));
        return Err(format!(
            "unknown AWS SD role {role}; known are {}",
            roles.join(", ")
        ));
    }
    Ok(())
}

pub(super) fn ec2(entry: &Entry) -> Checked {
    let is_empty = |filter: &Node| filter.get("values").map_or(&[][..], Node::items).is_empty();
    if entry.list("filters").iter().any(is_empty) {
        return Err("EC2 SD configuration filter values cannot be empty".to_owned());
    }
    Ok(())
}

pub(super) fn azure(entry: &Entry) -> Checked {
    let needs =
        |name: &str| entry.needs(name, &format!("azure SD configuration requires a {name}"));
    needs("subscription_id")?;
    let method = match entry.text("authentication_method") {
        "" if !entry.fields.has("authentication_method") => "OAuth",
        method => method,
    };
    match method {
        "OAuth" => {
            needs("tenant_id")?;
            needs("client_id")?;
            needs("client_secret")
        }
        "ManagedIdentity" | "SDK" | "WorkloadIdentity" => Ok(()),
        other => Err(format!(
            "unknown authentication_type {}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\"",
            kittiwake_model::quote(other)
        )),
    }
}

pub(super) fn consul(entry: &Entry) -> Checked {
    if entry.fields.has("server") && entry.text("server").trim().is_empty() {
        return Err("consul SD configuration requires a server address".to_owned());
    }
    let has_user = !entry.is_empty("username") || !entry.is_empty("password");
    if has_user && entry.has_http("basic_auth") {
        return Err("at most one of consul SD configuration username and password and basic auth can be configured".to_owned());
    }
    let has_other = entry.has_http("authorization") || entry.has_http("oauth2");
    if !entry.is_empty("token") && has_other {
        let text = "at most one of consul SD token, authorization, or oauth2 can be configured";
        return Err(text.to_owned());
    }
    Ok(())
}

pub(super) fn digitalocean(entry: &Entry) -> Checked {
    entry.one_of(
        "role",
        &["droplets", "databases"],
        "unknown DigitalOcean SD role",
    )
}

pub(super) fn dns(entry: &Entry) -> Checked {
    if entry.list("names").is_empty() {
        return Err("DNS-SD config must contain at least one SRV record name".to_owned());
    }
    let kind = entry.text("type").to_ascii_uppercase();
    match kind.as_str() {
        "SRV" => Ok(()),
        "" if !entry.fields.has("type") => Ok(()),
        "A" | "AAAA" | "MX" | "NS" => {
            if matches!(entry.text("port"), "" | "0") {
                return Err(
                    "a port is required in DNS-SD configs for all record types except SRV"
                        .to_owned(),
                );
            }
            Ok(())
        }
        _ => Err(format!(
            "invalid DNS-SD records type {}",
            entry.text("type")
        )),
    }
}

pub(super) fn dockerswarm(entry: &Entry) -> Checked {
    entry.needs("host", "host missing")?;
    entry.address("host", "host is no address:")?;
    match entry.text("role") {
        "services" | "nodes" | "tasks" => Ok(()),
        "" => Err("role missing (one of: tasks, services, nodes)".to_owned()),
        other => Err(format!(
            "invalid role {other}, expected tasks, services, or nodes"
        )),
    }
}

pub(super) fn eureka(entry: &Entry) -> Checked {
    entry.needs("server", "eureka_sd: empty or null eureka server")?;
    match scheme_and_host(entry.text("server")) {
        Some((scheme, host)) if !scheme.is_empty() && !host.is_empty() => Ok(()),
        _ => Err("eureka_sd: invalid eureka server URL".to_owned()),
    }
}

pub(super) fn gce(entry: &Entry) -> Checked {
    entry.needs("project", "GCE SD configuration requires a project")?;
    entry.needs("zone", "GCE SD configuration requires a zone")
}

pub(super) fn hetzner(entry: &Entry) -> Checked {
    entry.one_of("role", &["robot", "hcloud"], "unknown role")?;
    entry.needs("role", "role missing (one of: robot, hcloud)")
}

pub(super) fn http(entry: &Entry) -> Checked {
    entry.web_address("url")
}

pub(super) fn ionos(entry: &Entry) -> Checked {
    entry.needs("datacenter_id", "datacenter id can't be empty")
}

/// Which selectors each role takes.
const SELECTORS: [(&str, &[&str]); 6] = [
    ("pod", &["pod", "node"]),
    ("service", &["service"]),
    ("endpointslice", &["pod", "service", "endpointslice"]),
    ("endpoints", &["pod", "service", "endpoints"]),
    ("node", &["node"]),
    ("ingress", &["ingress"]),
];

pub(super) fn kubernetes(entry: &Entry) -> Checked {
    let refuse = |text: &str| Err(text.to_owned());
    let roles: Vec<&str> = SELECTORS.iter().map(|(role, _)| *role).collect();
    entry.one_of("role", &roles, "unknown Kubernetes SD role")?;
    entry.needs(
        "role",
        "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)",
    )?;
    let has_server = !entry.is_empty("api_server");
    let has_file = !entry.is_empty("kubeconfig_file");
    let namespaces = entry.fields.get("namespaces");
    let is_own = namespaces.is_some_and(|n| n.is_true("own_namespace"));
    entry.address("api_server", "api_server is no URL:")?;
    // What is as if it were not there is no setting of the client.
    let has_http = !entry.http.is_empty();
    if has_server && has_file {
        return refuse("cannot use 'kubeconfig_file' and 'api_server' simultaneously");
    }
    if has_file && has_http {
        return refuse(
            "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
        );
    }
    if !has_server && has_http {
        return refuse(
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        );
    }
    if has_server && is_own {
        return refuse("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
    }
    if has_file && is_own {
        return refuse(
            "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously",
        );
    }
    let role = entry.text("role");
    let allowed = SELECTORS.iter().find(|(known, _)| *known == role);
    let allowed = allowed.map_or(&[][..], |(_, allowed)| allowed);
    let mut seen = Vec::new();
    for selector in entry.list("selectors") {
        let of = selector.field("role");
        if seen.contains(&of) {
            return Err(format!("duplicated selector role: {of}"));
        }
        seen.push(of);
        if !allowed.contains(&of) {
            let allowed = allowed.join(", ");
            return Err(format!("{role} role supports only {allowed} selectors"));
        }
        field_selector(selector.field("field"))?;
        label_selector(selector.field("label"))?;
    }
    Ok(())
}

/// `a=b,c!=d`, where a backslash takes the meaning from a comma, a sign or itself.
fn field_selector(text: &str) -> Checked {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => parts.push(String::new()),
            '\\' => {
                // What is escaped separates nothing.
                chars.next();
                if let Some(part) = parts.last_mut() {
                    part.push('x');
                }
            }
            c => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !part.contains('=') {
            return Err(format!(
                "invalid selector: '{text}'; can't understand '{part}'"
            ));
        }
    }
    Ok(())
}

/// `a`, `!a`, `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a>1`, joined by commas.
fn label_selector(text: &str) -> Checked {
    let wrong = || {
        Err(format!(
            "unable to parse requirement: '{text}' is no label selector"
        ))
    };
    let mut depth = 0_usize;
    let mut parts = vec![String::new()];
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return wrong(),
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    if depth > 0 || (parts.len() > 1 && parts.iter().any(|part| part.trim().is_empty())) {
        return wrong();
    }
    // A name stands behind an optional prefix; it begins and ends with a letter or a digit.
    let is_name = |name: &str| {
        let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        is_end(name.chars().next())
            && is_end(name.chars().next_back())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let is_word = |word: &str| word.splitn(2, '/').all(is_name);
    for part in parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
    {
        let words: Vec<&str> = part.splitn(2, '(').collect();
        let is_good = if let [head, list] = words.as_slice() {
            let head: Vec<&str> = head.split_whitespace().collect();
            matches!(head.as_slice(), [key, "in" | "notin"] if is_word(key))
                && list.trim_end().ends_with(')')
        } else if let Some(key) = part.strip_prefix('!') {
            is_word(key.trim())
        } else {
            let sign = ["!=", "==", "=", ">", "<"]
                .iter()
                .find(|sign| part.contains(**sign));
            match sign.and_then(|sign| part.split_once(*sign)) {
                Some((key, value)) => {
                    is_word(key.trim()) && (value.trim().is_empty() || is_word(value.trim()))
                }
                None => is_word(part),
            }
        };
        if !is_good {
            return wrong();
        }
    }
    Ok(())
}

pub(super) fn kuma(entry: &Entry) -> Checked {
    let given = entry.text("server");
    match scheme_and_host(given) {
        Some((scheme, host)) if !scheme.is_empty() && !host.is_empty() => Ok(()),
        _ => Err(format!(
            "kuma SD server must not be empty and have a scheme: {given}"
        )),
    }
}

pub(super) fn marathon(entry: &Entry) -> Checked {
    let refuse = |text: &str| Err(format!("marathon_sd: {text} must be configured"));
    if entry.list("servers").is_empty() {
        return Err("marathon_sd: must contain at least one Marathon server".to_owned());
    }
    let (has_token, has_file) = (
        !entry.is_empty("auth_token"),
        !entry.is_empty("auth_token_file"),
    );
    if has_token && has_file {
        return refuse("at most one of auth_token & auth_token_file");
    }
    if !has_token && !has_file {
        return Ok(());
    }
    if entry.has_http("basic_auth") {
        return refuse("at most one of basic_auth, auth_token & auth_token_file");
    }
    if entry.has_http("bearer_token") || entry.has_http("bearer_token_file") {
        return refuse(
            "at most one of bearer_token, bearer_token_file, auth_token & auth_token_file",
        );
    }
    if entry.has_http("authorization") {
        return refuse("at most one of auth_token, auth_token_file & authorization");
    }
    Ok(())
}

fn zookeeper(entry: &Entry, name: &str) -> Checked {
    if entry.list("servers").is_empty() {
        return Err(format!(
            "{name} SD config must contain at least one Zookeeper server"
        ));
    }
    if entry.list("paths").is_empty() {
        return Err(format!("{name} SD config must contain at least one path"));
    }
    for path in entry.list("paths").iter().filter_map(Node::text) {
        if !path.starts_with('/') {
            return Err(format!(
                "{name} SD config paths must begin with '/': {path}"
            ));
        }
    }
    Ok(())
}

pub(super) fn nerve(entry: &Entry) -> Checked {
    zookeeper(entry, "nerve")
}

pub(super) fn serverset(entry: &Entry) -> Checked {
    zookeeper(entry, "serverset")
}

pub(super) fn nomad(entry: &Entry) -> Checked {
    if entry.fields.has("server") && entry.text("server").trim().is_empty() {
        return Err("nomad SD configuration requires a server address".to_owned());
    }
    Ok(())
}

pub(super) fn oci(entry: &Entry) -> Checked {
    const KEYS: [&str; 6] = [
        "tenancy",
        "user",
        "fingerprint",
        "key_file",
        "key_passphrase",
        "key_passphrase_file",
    ];
    entry.needs("region", "oci_sd: region is required")?;
    let auth = match entry.text("auth") {
        "" if !entry.fields.has("auth") => "api_key",
        auth => auth,
    };
    match auth {
        "api_key" => {
            for name in &KEYS[..4] {
                entry.needs(name, &format!("oci_sd: api_key auth requires {name}"))?;
            }
            if !entry.is_empty("key_passphrase") && !entry.is_empty("key_passphrase_file") {
                return Err("oci_sd: at most one of key_passphrase and key_passphrase_file must be configured".to_owned());
            }
        }
        "instance_principal" => {
            if KEYS.iter().any(|name| !entry.is_empty(name)) {
                return Err("oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, key_passphrase, or key_passphrase_file set".to_owned());
            }
        }
        other => {
            let other = kittiwake_model::quote(other);
            return Err(format!(
                "oci_sd: unknown auth method {other}, expected \"api_key\" or \"instance_principal\""
            ));
        }
    }
    for (index, id) in entry.list("compartments").iter().enumerate() {
        if id.text().unwrap_or("").is_empty() {
            return Err(format!("oci_sd: compartments[{index}] must not be empty"));
        }
    }
    if entry.has_zero_interval() {
        return Err("oci_sd: refresh_interval must be positive, got 0s".to_owned());
    }
    Ok(())
}

pub(super) fn openstack(entry: &Entry) -> Checked {
    let roles = ["instance", "hypervisor", "loadbalancer"];
    entry.one_of("role", &roles, "unknown OpenStack SD role")?;
    let availability = entry.text("availability");
    if entry.fields.has("availability") && !["public", "internal", "admin"].contains(&availability)
    {
        return Err(format!(
            "unknown availability {availability}, must be one of admin, internal or public"
        ));
    }
    entry.needs(
        "role",
        "role missing (one of: instance, hypervisor, loadbalancer)",
    )?;
    entry.needs("region", "openstack SD configuration requires a region")
}

pub(super) fn outscale(entry: &Entry) -> Checked {
    if entry.fields.has("region") {
        entry.needs("region", "outscale SD configuration requires a region")?;
    }
    entry.needs(
        "access_key",
        "outscale SD configuration requires access_key",
    )?;
    entry.one_secret()
}

pub(super) fn ovhcloud(entry: &Entry) -> Checked {
    if entry.fields.has("endpoint") {
        entry.needs("endpoint", "endpoint can not be empty")?;
    }
    entry.needs("application_key", "application key can not be empty")?;
    entry.needs("application_secret", "application secret can not be empty")?;
    entry.needs("consumer_key", "consumer key can not be empty")?;
    match entry.text("service") {
        "dedicated_server" | "vps" => Ok(()),
        other => Err(format!(
            "unknown service: {other}; known are dedicated_server, vps"
        )),
    }
}

pub(super) fn puppetdb(entry: &Entry) -> Checked {
    entry.web_address("url")?;
    entry.needs("query", "query missing")
}

pub(super) fn scaleway(entry: &Entry) -> Checked {
    entry.one_of("role", &["instance", "baremetal"], "unknown role")?;
    entry.needs("role", "role missing (one of: instance, baremetal)")?;
    entry.needs("project_id", "project_id is mandatory")?;
    entry.one_secret()?;
    entry.needs("access_key", "access_key is mandatory")?;
    let access_key = entry.text("access_key");
    let tail = access_key.strip_prefix("SCW").unwrap_or("");
    let is_key = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if tail.len() != 17 || !tail.bytes().all(is_key) {
        return Err(
            "scaleway-sdk-go: invalid access key format, expected SCWXXXXXXXXXXXXXXXXX format"
                .to_owned(),
        );
    }
    for name in ["secret_key", "project_id"] {
        if !entry.is_empty(name) && !is_uuid(entry.text(name)) {
            return Err(format!(
                "scaleway-sdk-go: invalid {name} format, expected a UUID"
            ));
        }
    }
    Ok(())
}

pub(crate) fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(is_hex)
}

pub(super) fn stackit(entry: &Entry) -> Checked {
    if entry.is_empty("endpoint") && entry.fields.has("region") && entry.is_empty("region") {
        return Err("stackit_sd: endpoint and region missing".to_owned());
    }
    entry.address("endpoint", "stackit_sd: invalid endpoint")
}

pub(super) fn triton(entry: &Entry) -> Checked {
    let role = entry.text("role");
    if entry.fields.has("role") && role != "container" && role != "cn" {
        return Err("triton SD configuration requires role to be 'container' or 'cn'".to_owned());
    }
    entry.needs("account", "triton SD configuration requires an account")?;
    entry.needs(
        "dns_suffix",
        "triton SD configuration requires a dns_suffix",
    )?;
    entry.needs("endpoint", "triton SD configuration requires an endpoint")?;
    if entry.has_zero_interval() {
        let text = "triton SD configuration requires RefreshInterval to be a positive integer";
        return Err(text.to_owned());
    }
    Ok(())
}

pub(super) fn uyuni(entry: &Entry) -> Checked {
    entry.needs("server", "Uyuni SD configuration requires server host")?;
    entry.address("server", "Uyuni Server URL is not valid:")?;
    entry.needs("username", "Uyuni SD configuration requires a username")?;
    entry.needs("password", "Uyuni SD configuration requires a password")
}
