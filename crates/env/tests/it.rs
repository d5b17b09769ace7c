//! The contract of `Fs`, held by both implementations, and what the simulation may lose.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use kittiwake_env::{Fault, Fs, FsError, RealFs, Rng, SeededRng, SimFs};

fn names(fs: &dyn Fs, dir: &Path) -> Vec<(String, u64)> {
    fs.list(dir)
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.len))
        .collect()
}

fn contract(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).unwrap();
    let (one, two) = (dir.join("1"), dir.join("2"));
    let mut file = fs.create(&one).unwrap();
    file.append(&[b"ab", b"", b"cd"]).unwrap();
    let reader = fs.open_read(&one).unwrap();
    file.write_all(b"ef").unwrap();
    file.sync().unwrap();
    file.syncer().sync().unwrap();
    assert_eq!(file.len(), 6);
    assert_eq!(reader.len().unwrap(), 6);
    let mut buf = [0; 4];
    assert_eq!(reader.read_at(4, &mut buf).unwrap(), 2);
    assert_eq!(&buf[..2], b"ef");
    assert_eq!(reader.read_at(99, &mut buf).unwrap(), 0);
    assert!(reader.read_exact_at(4, &mut buf).is_err());

    file.set_len(1).unwrap();
    file.write_all(b"z").unwrap();
    drop(file);
    let mut file = fs.open_append(&one).unwrap();
    assert_eq!(file.len(), 2);
    file.write_all(b"y").unwrap();
    assert_eq!(fs.read(&one, 3).unwrap(), b"azy");
    assert!(matches!(
        fs.read(&one, 2),
        Err(FsError::TooLarge { size_bytes: 3, .. })
    ));

    fs.rename(&one, &two).unwrap();
    fs.sync_dir(&dir).unwrap();
    assert_eq!(
        reader.read_at(0, &mut buf).unwrap(),
        3,
        "a handle survives a rename"
    );
    assert!(!fs.exists(&one).unwrap());
    assert!(fs.open_read(&one).unwrap_err().is_not_found());
    fs.truncate(&two, 1).unwrap();
    fs.write_atomic(&one, &[b"12", b"3"]).unwrap();
    assert_eq!(names(fs, &dir), [("1".into(), 3), ("2".into(), 1)]);
    assert!(fs.list(&root.join("a")).unwrap()[0].is_dir);
    fs.create(&one).unwrap();
    fs.remove(&two).unwrap();
    assert_eq!(names(fs, &dir), [("1".into(), 0)]);
    assert!(fs.remove(&two).unwrap_err().is_not_found());

    let lock = fs.lock(&dir.join("lock")).unwrap();
    assert!(matches!(
        fs.lock(&dir.join("lock")),
        Err(FsError::Locked { .. })
    ));
    drop(lock);
    fs.lock(&dir.join("lock")).unwrap();
    let space = fs.disk_space(root).unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
    fs.remove_dir_all(&root.join("a")).unwrap();
    assert!(!fs.exists(&dir).unwrap());
}

#[test]
fn both_hold_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&RealFs, dir.path());
    contract(&SimFs::new(1), Path::new("/"));
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_subset_of_the_rest() {
    let path = Path::new("/d/file");
    let (mut lost, mut whole, mut torn, mut holed) = (0, 0, 0, 0);
    for seed in 0..400 {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("/d")).unwrap();
        let mut file = fs.create(path).unwrap();
        file.write_all(b"1111").unwrap();
        file.sync().unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        file.write_all(b"2222").unwrap();
        file.write_all(b"3333").unwrap();
        fs.crash(&mut SeededRng::new(seed));
        assert!(file.write_all(b"x").is_err(), "the handle died");
        let bytes = fs.read(path, 100).unwrap();
        assert!(bytes.starts_with(b"1111"), "seed {seed}: {bytes:?}");
        match bytes.len() {
            4 => lost += 1,
            12 if bytes.ends_with(b"22223333") => whole += 1,
            12 if bytes.ends_with(b"\0\0\0\x003333") => holed += 1,
            _ => torn += 1,
        }
    }
    assert!(
        lost > 0 && whole > 0 && torn > 0 && holed > 0,
        "{lost} {whole} {torn} {holed}"
    );
}

#[test]
fn names_need_a_synced_directory() {
    let (mut old, mut new, mut both) = (0, 0, 0);
    for seed in 0..200 {
        let fs = SimFs::new(seed);
        fs.create(Path::new("/a")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.rename(Path::new("/a"), Path::new("/b")).unwrap();
        fs.create(Path::new("/c")).unwrap();
        fs.crash(&mut SeededRng::new(seed));
        let a = fs.exists(Path::new("/a")).unwrap();
        let b = fs.exists(Path::new("/b")).unwrap();
        assert!(a != b, "seed {seed}: a rename is atomic");
        old += u32::from(a);
        new += u32::from(b);
        both += u32::from(a && fs.exists(Path::new("/c")).unwrap());
    }
    assert!(old > 0 && new > 0 && both > 0, "{old} {new} {both}");
}

#[test]
fn an_atomic_write_leaves_old_or_new_at_any_operation() {
    let path = Path::new("/cursor");
    for seed in 0..200 {
        let fs = SimFs::new(seed);
        fs.write_atomic(path, &[b"old"]).unwrap();
        let mut rng = SeededRng::new(seed);
        fs.halt_at(fs.operations() + rng.below(6));
        let done = fs.write_atomic(path, &[b"new!"]).is_ok();
        fs.crash(&mut rng);
        let bytes = fs.read(path, 100).unwrap();
        assert!(
            bytes == b"new!" || (!done && bytes == b"old"),
            "seed {seed}: {bytes:?}"
        );
    }
}

#[test]
fn after_a_failed_sync_a_good_one_proves_nothing() {
    let path = Path::new("/f");
    let mut lost = 0;
    for seed in 0..50 {
        let fs = SimFs::new(seed);
        let mut file = fs.create(path).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        file.write_all(b"data").unwrap();
        fs.fail_at(fs.operations(), Fault::Io);
        assert!(!file.sync().unwrap_err().is_full());
        file.sync().unwrap();
        assert_eq!(fs.read(path, 9).unwrap(), b"data", "still in the cache");
        fs.crash(&mut SeededRng::new(seed));
        lost += u32::from(fs.read(path, 9).unwrap() != b"data");
    }
    assert!(lost > 0);
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers() {
    let fs = SimFs::new(1);
    let mut file = fs.create(Path::new("/f")).unwrap();
    fs.set_capacity_bytes(6);
    file.write_all(b"1234").unwrap();
    assert!(file.write_all(b"5678").unwrap_err().is_full());
    assert_eq!(file.len(), 6);
    file.set_len(4).unwrap();
    fs.set_capacity_bytes(8);
    file.write_all(b"5678").unwrap();
    assert!(fs.flip_bit(Path::new("/f"), 0, 1));
    assert_eq!(fs.peek(Path::new("/f")).unwrap(), b"32345678");
    fs.kill();
    assert_eq!(fs.read(Path::new("/f"), 8).unwrap(), b"32345678");
}
