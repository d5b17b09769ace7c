//! The virtual machine of the tests: Debian's cloud kernel, busybox and Docker, which has
//! cgroup v2 whatever this machine has. The tests add the program and the first process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{need, run};

/// Programs that the machine has beside busybox.
const PROGRAMS: [&str; 6] = [
    "/bin/busybox",
    "/usr/sbin/dockerd",
    "/usr/bin/docker",
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/sbin/runc",
];
/// Modules that the kernel needs to reach its disk and to start containers.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "ext4", "overlay"];

/// Makes the kernel and the file system in memory, once per version of the kernel, and gives
/// the folder with `vmlinuz` and `base.cpio`.
pub fn prepare(cache: &Path) -> Result<PathBuf> {
    need("qemu-system-x86_64", &["qemu-system-x86"])?;
    need("depmod", &["kmod"])?;
    need("mkfs.ext4", &["e2fsprogs"])?;
    let package = kernel_package()?;
    let dir = cache.join("guest").join(&package);
    if dir.join("base.cpio").is_file() {
        return Ok(dir);
    }
    let work = dir.join("work");
    // What an attempt before this left behind.
    let _ = fs::remove_dir_all(&dir);
    let root = work.join("root");
    fs::create_dir_all(&root).with_context(|| format!("{}", root.display()))?;
    let kernel = kernel(&package, &work)?;
    fs::copy(
        kernel.join(format!("boot/vmlinuz-{}", version(&package))),
        dir.join("vmlinuz"),
    )?;
    modules(&kernel, version(&package), &root)?;
    programs(&root)?;
    archive(&root, &dir.join("base.cpio"))?;
    fs::remove_dir_all(&work)?;
    Ok(dir)
}

fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// The package of the newest cloud kernel.
fn kernel_package() -> Result<String> {
    let ask = || output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let found = |text: &str| {
        let mut words = text.split_whitespace();
        let name = words.find(|w| w.starts_with("linux-image-") && w.ends_with("-cloud-amd64"));
        let mut words = text.split_whitespace().skip_while(|w| *w != "Depends:");
        let depends = words.nth(1).or(name);
        depends
            .filter(|w| w.starts_with("linux-image-"))
            .map(str::to_owned)
    };
    if let Some(package) = ask().ok().as_deref().and_then(found) {
        return Ok(package);
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    found(&ask()?).context("no package linux-image-cloud-amd64 to take a kernel from")
}

fn version(package: &str) -> &str {
    package.trim_start_matches("linux-image-")
}

/// Unpacks the kernel's package; it is not installed.
fn kernel(package: &str, work: &Path) -> Result<PathBuf> {
    run(Command::new("apt-get")
        .args(["download", package])
        .current_dir(work))?;
    let mut files = fs::read_dir(work)?.filter_map(|e| Some(e.ok()?.path()));
    let file = files.find(|f| f.extension().is_some_and(|e| e == "deb"));
    let to = work.join("kernel");
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(file.context("apt-get download left no package")?)
        .arg(&to))?;
    run(Command::new("depmod")
        .arg("-b")
        .arg(&to)
        .arg(version(package)))?;
    Ok(to)
}

/// Copies the modules with those that they need, and `/etc/modules` in the order to load them.
fn modules(kernel: &Path, version: &str, root: &Path) -> Result<()> {
    let to = root.join("lib/modules");
    fs::create_dir_all(&to)?;
    let mut names: Vec<String> = Vec::new();
    for module in MODULES {
        let shown = output(
            Command::new("modprobe")
                .args(["--show-depends", "-S", version, "-d"])
                .arg(kernel)
                .arg(module),
        )?;
        for line in shown.lines() {
            // `insmod /path/of/module.ko`, or `builtin name`.
            let Some(path) = line.strip_prefix("insmod ") else {
                continue;
            };
            let path = Path::new(path.trim());
            let name = path.file_name().context("a module without a name")?;
            let name = name.to_string_lossy().into_owned();
            if !names.contains(&name) {
                fs::copy(path, to.join(&name))?;
                names.push(name);
            }
        }
    }
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/modules"), names.join("\n") + "\n")?;
    Ok(())
}

fn programs(root: &Path) -> Result<()> {
    for dir in [
        "bin", "dev", "proc", "sys", "run", "tmp", "var/lib", "etc", "root",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for program in PROGRAMS {
        let name = Path::new(program).file_name().context("no name")?;
        fs::copy(program, root.join("bin").join(name)).with_context(|| program.to_owned())?;
        libraries(Path::new(program), root)?;
    }
    let applets = output(Command::new("/bin/busybox").arg("--list"))?;
    for applet in applets.lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\ndocker:x:999:\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost guest\n")?;
    Ok(())
}

/// Copies the shared libraries of a program to where it looks for them.
fn libraries(program: &Path, root: &Path) -> Result<()> {
    let Ok(needed) = output(Command::new("ldd").arg(program)) else {
        // It is static.
        return Ok(());
    };
    let paths = needed.split_whitespace().filter(|w| w.starts_with('/'));
    for path in paths {
        let to = root.join(path.trim_start_matches('/'));
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::copy(path, to).with_context(|| path.to_owned())?;
    }
    Ok(())
}

/// Writes a folder as a file system for a kernel to start with.
fn archive(root: &Path, to: &Path) -> Result<()> {
    let script = format!("find . | busybox cpio -o -H newc > '{}'", to.display());
    run(Command::new("sh").args(["-c", &script]).current_dir(root))
}
