//! Paths as earlier releases wrote them in snapshots: with bars, brackets at the end and outer blanks as they are.

use std::collections::{BTreeMap, BTreeSet};

use schemas::mapping::Path;
use schemas::shape::{join, join_formerly};

use super::Drift;

impl Drift {
    /// Names what a mapping reads by these paths as it is written now.
    pub(in crate::step) fn name_as_now<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let texts = |parts: &'a Vec<String>| {
            let names = || parts.iter().map(String::as_str);
            (join_formerly(names()), join(names()))
        };
        let all: Vec<(String, String)> = paths.flat_map(Path::choices).map(texts).collect();
        let now: BTreeSet<&str> = all.iter().map(|(_, now)| now.as_str()).collect();
        // What another path is called by now means that one.
        let is_free = |before: &str| !now.contains(before);
        let names =
            all.iter().filter(|(before, _)| is_free(before.as_str())).map(|(before, now)| (before.as_str(), now));
        let names: BTreeMap<&str, &String> = names.collect();
        if names.is_empty() {
            return;
        }
        let freed = self.cases.values_mut().flat_map(|case| &mut case.freed);
        let watched = self.watches.iter_mut().map(|watch| &mut watch.paths);
        let known = watched.chain(self.habits.iter_mut().map(|habit| &mut habit.paths)).chain(freed);
        for path in known.flatten() {
            if let Some(now) = names.get(path.as_str()) {
                path.clone_from(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch::Watch;
    use super::*;

    #[test]
    fn a_watch_of_an_earlier_snapshot_goes_on_under_the_path_as_it_is_written_now() {
        let watch = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            Watch { paths, ..Watch::default() }
        };
        let watches = vec![watch(&["stage|title", "amt "]), watch(&["x[]"]), watch(&["Total"])];
        let mut drift = Drift { watches, ..Drift::default() };
        let read: Vec<Path> = [r"stage\|title | amt\ ", "Total | x[]", r"x\[]"]
            .into_iter()
            .map(|text| Path::new(text).unwrap())
            .collect();
        for _ in 0..2 {
            drift.name_as_now(read.iter());
            let paths: Vec<&[String]> = drift.watches.iter().map(|watch| watch.paths.as_slice()).collect();
            assert_eq!(paths, [&[r"stage\|title", r"amt\ "][..], &["x[]"], &["Total"]]);
        }
    }
}
