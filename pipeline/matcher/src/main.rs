//! The matcher by itself: predictions for a file of cases, and the signals that the fit learns from.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use matcher::cases::{self, Case, Kind};
use matcher::{Matcher, Models, SIGNALS, Task};

const USAGE: &str = "usage: matcher crm|drift|drift-ops CASES.json [MODEL.json]
       matcher signals|rivals crm|drift CASES.json [MODEL.json]    what the fit learns from, one pair a line
       matcher names                                               the signals, their groups, which way they speak";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(Some(&*error as &dyn std::error::Error), |e| e.source());
            eprintln!("{}", causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run(args: &[&str]) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match args {
        ["names"] => {
            let names: Vec<_> =
                SIGNALS.iter().map(|(name, group, way)| serde_json::json!([name, group, way])).collect();
            writeln!(out, "{}", serde_json::Value::from(names))?;
        }
        ["signals", kind, file] => signals(&cases(kind, file)?, &mut out)?,
        ["rivals", kind, file, model] => {
            let models = Models::read(&std::fs::read_to_string(model)?)?;
            let task = if *kind == "crm" { Task::Onboard } else { Task::Drift };
            rivals(&cases(kind, file)?, &Matcher::with_models(&models), task, &mut out)?;
        }
        [kind, file] => cases::answer(named(kind)?, &Matcher::default(), std::fs::File::open(file)?, &mut out)?,
        [kind, file, model] => {
            let models = Models::read(&std::fs::read_to_string(model)?)?;
            cases::answer(named(kind)?, &Matcher::with_models(&models), std::fs::File::open(file)?, &mut out)?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(out.flush()?)
}

fn named(kind: &str) -> Result<Kind, Failure> {
    match kind {
        "crm" => Ok(Kind::Crm),
        "drift" => Ok(Kind::Drift),
        "drift-ops" => Ok(Kind::DriftOperations),
        _ => Err(USAGE.into()),
    }
}

fn cases(kind: &str, file: &str) -> Result<Vec<Case>, Failure> {
    Ok(cases::read(named(kind)?, std::fs::File::open(file)?)?)
}

fn signals(cases: &[Case], out: &mut impl Write) -> Result<(), Failure> {
    for case in cases {
        let all = Matcher::signals(&case.problem);
        for (id, source) in &case.questions {
            for (target, pair) in case.problem.targets.iter().zip(&all[*source]) {
                writeln!(out, "{}", serde_json::json!([id, target.name, &pair[..]]))?;
            }
        }
    }
    Ok(())
}

fn rivals(cases: &[Case], matcher: &Matcher<'_>, task: Task, out: &mut impl Write) -> Result<(), Failure> {
    for case in cases {
        let all = matcher.find(&case.problem, task, &[])?;
        for (id, source) in &case.questions {
            for candidate in &all[*source] {
                let target = &case.problem.targets[candidate.target].name;
                writeln!(out, "{}", serde_json::json!([id, target, &candidate.rivals[..], candidate.agreed]))?;
            }
        }
    }
    Ok(())
}
