//! Files are read only where they may be read.

use std::os::unix::fs::symlink;

use connectors::{Bounds, FileSettings, FileSource};

use crate::formats::{Folder, read_all, settings};

#[tokio::test]
async fn a_link_in_a_folder_does_not_lead_to_another_tenants_file() {
    let (folder, other) = (Folder::new(), Folder::new());
    let secret = other.write("secret.csv", "a\nsecret\n");
    folder.write("a.csv", "a\n1\n");
    symlink(&secret, folder.path("b.csv")).unwrap();
    for named in [folder.path(""), folder.path("*.csv")] {
        let run = read_all(settings(&[&named])).await;
        assert_eq!(run.payloads(), ["{\"a\":\"1\"}"]);
        assert!(run.error.unwrap().to_string().contains("b.csv is a link out of its folder"));
    }
}

#[tokio::test]
async fn within_bounds_only_files_under_the_roots_and_none_of_the_data_folder_are_read() {
    let (folder, other) = (Folder::new(), Folder::new());
    let secret = other.write("secret.csv", "a\nsecret\n");
    let good = folder.write("a.csv", "a\n1\n");
    std::fs::create_dir(folder.path("data")).unwrap();
    folder.write("data/b.csv", "a\nsecret\n");
    symlink(&secret, folder.path("c.csv")).unwrap();
    let bounds = Bounds { roots: vec![folder.path("")], except: vec![folder.path("data")] };
    let bounded = |path: &std::path::Path| FileSettings { bounds: Some(bounds.clone()), ..settings(&[path]) };
    assert_eq!(read_all(bounded(&good)).await.without_error().payloads(), ["{\"a\":\"1\"}"]);
    for outside in [secret.clone(), folder.path("c.csv"), folder.path("data/b.csv"), folder.path("data"), "/etc".into()]
    {
        assert!(FileSource::open(bounded(&outside), Vec::new()).is_err(), "{}", outside.display());
    }
    let nothing = FileSettings { bounds: Some(Bounds::default()), ..settings(&[&good]) };
    assert!(FileSource::open(nothing, Vec::new()).is_err());
}

#[tokio::test]
async fn what_leads_out_only_after_it_was_found_is_not_read() {
    let (folder, other) = (Folder::new(), Folder::new());
    other.write("a.csv", "a\nsecret\n");
    std::fs::create_dir(folder.path("in")).unwrap();
    folder.write("in/a.csv", "a\n1\n");
    let bounds = Bounds { roots: vec![folder.path("")], except: vec![] };
    for bounds in [None, Some(bounds)] {
        let settings = FileSettings { bounds, ..settings(&[&folder.path("in/*.csv")]) };
        let mut source = FileSource::open(settings, Vec::new()).unwrap();
        std::fs::rename(folder.path("in"), folder.path("away")).unwrap();
        symlink(other.path(""), folder.path("in")).unwrap();
        let run = crate::suite::read(&mut source, 100).await;
        assert!(run.batches.is_empty());
        assert!(run.error.unwrap().to_string().contains("leads out of the folders"));
        std::fs::remove_file(folder.path("in")).unwrap();
        std::fs::rename(folder.path("away"), folder.path("in")).unwrap();
    }
}
