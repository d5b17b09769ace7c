//! The built programs as child processes, and what they log.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::{Api, Engine, wait_for};

/// A program that was built with the tests.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/it-<hash>
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is not built: use cargo xtask test",
        path.display()
    );
    path
}

/// An address that nobody listens on.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A child process that logs into a file. It is killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    pub fn start(mut command: Command, log: &Path) -> Self {
        let to = File::options().create(true).append(true).open(log);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to.unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// What it has logged.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Fails at a line of its log that warns or tells an error, unless it has one of these
    /// texts.
    pub fn assert_quiet(&self, expected: &[&str]) {
        for line in self.logged().lines() {
            let is_loud = line.contains("level=warn") || line.contains("level=error");
            let is_loud = is_loud || line.contains("panicked at");
            let is_expected = expected.iter().any(|text| line.contains(text));
            assert!(!is_loud || is_expected, "unexpected in the log: {line}");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.logged());
        }
    }
}

/// A server that keeps its folder and address over restarts.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    address: String,
    engine: Option<String>,
    flags: Vec<String>,
    pub program: Program,
}

impl Server {
    /// Starts a server in a folder and waits until it is ready. Without an engine it has no
    /// collector in it.
    pub fn start(dir: &Path, engine: Option<&Engine>, flags: &[&str]) -> Self {
        let address = free_address();
        let engine = engine.map(|e| e.address.clone());
        let flags: Vec<String> = flags.iter().map(|&f| f.to_owned()).collect();
        let program = Self::spawn(dir, &address, engine.as_deref(), &flags);
        let server = Self {
            dir: dir.to_owned(),
            address,
            engine,
            flags,
            program,
        };
        server.wait_until_ready();
        server
    }

    /// Starts it again after it has ended.
    pub fn restart(&mut self) {
        self.program = Self::spawn(
            &self.dir,
            &self.address,
            self.engine.as_deref(),
            &self.flags,
        );
        self.wait_until_ready();
    }

    pub fn api(&self) -> Api {
        Api {
            base: format!("http://{}", self.address),
        }
    }

    pub fn pid(&self) -> u32 {
        self.program.child.id()
    }

    /// What a server says that ends by itself, or is ended after a while.
    pub fn run(flags: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("20").arg(built("kittiwake")).args(flags);
        command.env("DOCKER_HOST", "unix:///nowhere");
        command.output().unwrap()
    }

    fn spawn(dir: &Path, address: &str, engine: Option<&str>, flags: &[String]) -> Program {
        let mut command = Command::new(built("kittiwake"));
        command
            .args(["--web.listen-address", address, "--storage.path"])
            .arg(dir.join("store"))
            .args(flags);
        match engine {
            Some(engine) => command.env("DOCKER_HOST", engine),
            None => command.arg("--no-collector"),
        };
        Program::start(command, &dir.join("server.log"))
    }

    fn wait_until_ready(&self) {
        let api = self.api();
        wait_for("the server to be ready", || {
            api.get("/-/ready", &[]).filter(|a| a.status == 200)
        });
    }
}

/// A collector that keeps its folder over restarts.
#[derive(Debug)]
pub struct Collector {
    dir: PathBuf,
    server: String,
    engine: String,
    /// User and group to run as.
    user: Option<(u32, u32)>,
    pub program: Program,
}

impl Collector {
    pub fn start(dir: &Path, server: &Server, engine: &Engine, user: Option<(u32, u32)>) -> Self {
        let state = dir.join("state");
        std::fs::create_dir_all(&state).unwrap();
        if let Some((uid, _)) = user {
            std::os::unix::fs::chown(&state, Some(uid), Some(uid)).unwrap();
        }
        let (server, engine) = (server.api().base, engine.address.clone());
        let program = Self::spawn(dir, &server, &engine, user);
        Self {
            dir: dir.to_owned(),
            server,
            engine,
            user,
            program,
        }
    }

    pub fn restart(&mut self) {
        self.program = Self::spawn(&self.dir, &self.server, &self.engine, self.user);
    }

    fn spawn(dir: &Path, server: &str, engine: &str, user: Option<(u32, u32)>) -> Program {
        let program = built("kittiwake-collector");
        let mut command = match user {
            None => Command::new(program),
            Some((uid, group)) => {
                // Where the tests were built a user may not look.
                let copy = dir.join("kittiwake-collector");
                if !copy.is_file() {
                    std::fs::copy(program, &copy).unwrap();
                }
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", &uid.to_string(), "--regid", &uid.to_string()])
                    .args(["--groups", &group.to_string(), "--inh-caps=-all"])
                    .arg(copy);
                command
            }
        };
        command
            .args(["--server", server, "--state.path"])
            .arg(dir.join("state"))
            .env("DOCKER_HOST", engine);
        Program::start(command, &dir.join("collector.log"))
    }
}
