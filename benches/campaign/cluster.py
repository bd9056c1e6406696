"""The line on real servers: Kafka 4, Cassandra 5, and S3Proxy or a folder for views, each started here (`servers.py`) and ended
however this ends. Four questions, each of which can be asked alone:

    crew      three process, three project, one repair, two api: a million records while processes and the broker are killed
    paused    projectors and processors that are stopped past their leases and go on
    move      a data folder moves to the servers, also cut off in the middle
    demo      the demo and its drift drop, as a person walks through it

    cluster.py --seed 1 --records 1000000 --kills 50 --broker-kills 10
    cluster.py --only crew,paused --records 50000 --kills 5 --broker-kills 1 --pauses 2

The binary needs the features kafka, scylla and s3, which are on by default.
"""

import argparse
import pathlib
import shutil
import tempfile

import cluster_crew
import cluster_demo
import cluster_move
import cluster_paused
import line
import nodes
import oracle
import servers
from verdict import Campaign, skip

QUESTIONS = {"crew": cluster_crew, "paused": cluster_paused, "move": cluster_move, "demo": cluster_demo}


def questions(text):
    """Names of questions, in the order in which they are asked."""
    names = text.split(",")
    if unknown := set(names) - set(QUESTIONS):
        raise argparse.ArgumentTypeError(f"there is no question {', '.join(sorted(unknown))}: choose from {', '.join(QUESTIONS)}")
    return [name for name in QUESTIONS if name in names]


def options():
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=questions, default=list(QUESTIONS), help="some of the questions, separated by commas")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50, help="crew: kills of process and project")
    parser.add_argument("--broker-kills", type=int, default=10, help="crew: kills of the broker")
    parser.add_argument("--views", choices=("s3", "folder"), default="s3", help="crew, move: where views lie")
    parser.add_argument("--pauses", type=int, default=9, help="paused: pauses, of which a third is of processors")
    parser.add_argument("--paused-records", type=int, default=300_000, help="paused: at most so many records")
    parser.add_argument("--moved-records", type=int, default=300_000, help="move: at most so many records")
    parser.add_argument("--move-kills", type=int, default=5, help="move: kills of one move")
    parser.add_argument("--keep", action="store_true", help="keep the logs and folders of processes")
    return parser.parse_args()


def main():
    """Runs the campaign."""
    asked = options()
    campaign = Campaign("cluster", asked.seed, **{name: value for name, value in vars(asked).items() if name != "seed"})
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        nodes.check_build(scratch)
        for server in ("kafka", "cassandra", "s3proxy"):
            servers.jars(server)
        for name in asked.only:
            folder = scratch / name
            folder.mkdir()
            try:
                QUESTIONS[name].run(campaign, folder, asked)
            except (line.Failed, oracle.Mismatch) as error:
                campaign.anomaly(f"{name}: {error}")
            print(f"cluster: {name} is answered, faults {campaign.faults}, anomalies {len(campaign.anomalies)}", flush=True)
            if not asked.keep:
                shutil.rmtree(folder, ignore_errors=True)
    except servers.Missing as missing:
        skip("cluster", str(missing))
    finally:
        if asked.keep:
            print(f"cluster: kept in {scratch}", flush=True)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
