//! Models: fitted constants as data, and how they are read. `fit/fit.py` writes them.

use std::sync::OnceLock;

use serde::Deserialize;

/// What the matcher has been fitted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Map the fields of a new source to canonical fields.
    Onboard,
    /// Find where the fields went that a source no longer has.
    Drift,
}

/// The fitted constants of both tasks.
#[derive(Debug, Deserialize)]
pub struct Models {
    onboard: Model,
    drift: Model,
}

/// The fitted constants of a task.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// Signals of a pair to the log-odds that it belongs together, seen alone.
    pub pair: Scorer,
    /// The same once its rivals are known.
    pub rivals: Scorer,
    /// Log-odds to probability, for pairs whose signals agree.
    pub agreed: Curve,
    /// The same for all others.
    pub doubtful: Curve,
    /// Signals that count for nothing; empty but in ablations.
    #[serde(default)]
    pub ignored: Vec<usize>,
}

/// Log-odds to probability: points of a rising line, fitted on predictions for systems that the scorers had not seen.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Curve(Vec<(f32, f32)>);

/// Boosted trees, a line, or the mean of both.
#[derive(Debug, Default, Deserialize)]
pub struct Scorer {
    #[serde(default)]
    base: f32,
    #[serde(default)]
    trees: Vec<Tree>,
    #[serde(default)]
    line: Option<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    intercept: f32,
    weights: Vec<f32>,
}

/// A tree as a list of nodes: a leaf has no signal.
#[derive(Debug, Deserialize)]
struct Tree(Vec<Node>);

/// (signal or -1, threshold or value, node if at most, node if more)
#[derive(Debug, Deserialize)]
struct Node(i16, f32, u16, u16);

/// The fitted constants cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the model cannot be read")]
pub struct UnreadableModel(#[from] serde_json::Error);

impl Models {
    /// The shipped ones.
    ///
    /// # Panics
    ///
    /// When the file that this crate was built with is none, which its tests rule out.
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Models> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::read(include_str!("../data/model.json")).expect("the shipped model is read by the tests")
        })
    }

    /// Reads constants that `fit/fit.py` wrote.
    pub fn read(text: &str) -> Result<Self, UnreadableModel> {
        Ok(serde_json::from_str(text)?)
    }

    /// Those of a task.
    pub fn of(&self, task: Task) -> &Model {
        match task {
            Task::Onboard => &self.onboard,
            Task::Drift => &self.drift,
        }
    }
}

impl Scorer {
    /// The log-odds for these signals.
    pub fn log_odds(&self, signals: &[f32]) -> f32 {
        let trees = self.base + self.trees.iter().map(|tree| tree.value(signals)).sum::<f32>();
        let line = self
            .line
            .as_ref()
            .map(|line| line.intercept + line.weights.iter().zip(signals).map(|(w, s)| w * s).sum::<f32>());
        match (self.trees.is_empty(), line) {
            (true, Some(line)) => line,
            (false, Some(line)) => (trees + line) / 2.0,
            (_, None) => trees,
        }
    }
}

impl Tree {
    fn value(&self, signals: &[f32]) -> f32 {
        let mut at = 0;
        // A path is never longer than the tree has nodes; a damaged file cannot make it go round.
        for _ in 0..self.0.len() {
            let Some(Node(signal, number, low, high)) = self.0.get(at) else { return 0.0 };
            let Ok(signal) = usize::try_from(*signal) else { return *number };
            let is_low = signals.get(signal).is_none_or(|s| s <= number);
            at = usize::from(if is_low { *low } else { *high });
        }
        0.0
    }
}

impl Curve {
    /// The probability behind log-odds.
    pub fn confidence(&self, log_odds: f32) -> f32 {
        let points = &self.0;
        let Some(after) = points.iter().position(|(x, _)| *x >= log_odds) else {
            return points.last().map_or(0.5, |(_, y)| *y);
        };
        let (x1, y1) = points[after];
        let Some((x0, y0)) = after.checked_sub(1).map(|i| points[i]) else { return y1 };
        if x1 > x0 { y0 + (y1 - y0) * (log_odds - x0) / (x1 - x0) } else { y1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"pair":{"base":1.0,"trees":[[[0,0.5,1,2],[-1,-2.0,0,0],[-1,3.0,0,0]]],
        "line":{"intercept":0.0,"weights":[2.0]}},"rivals":{},"agreed":[],"doubtful":[[-1.0,0.1],[1.0,0.9]]}"#;

    #[test]
    fn trees_and_line_are_averaged_and_calibrated() {
        let model: Model = serde_json::from_str(TEXT).expect("a model");
        assert_eq!(model.pair.log_odds(&[1.0]), (4.0 + 2.0) / 2.0);
        assert_eq!(model.pair.log_odds(&[0.0]), (-1.0 + 0.0) / 2.0);
        assert_eq!((model.doubtful.confidence(-5.0), model.doubtful.confidence(5.0)), (0.1, 0.9));
        assert!((model.doubtful.confidence(0.0) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_shipped_model_is_one() {
        let models = Models::shipped();
        for task in [Task::Onboard, Task::Drift] {
            for Curve(points) in [&models.of(task).agreed, &models.of(task).doubtful] {
                assert!(points.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1) && points.len() > 1);
            }
            assert!(models.of(task).doubtful.confidence(f32::INFINITY) < 0.9, "one signal alone is never enough");
        }
    }

    #[test]
    fn a_tree_that_goes_round_ends() {
        let tree = Tree(vec![Node(0, 0.0, 0, 0)]);
        assert_eq!(tree.value(&[1.0]), 0.0);
    }
}
