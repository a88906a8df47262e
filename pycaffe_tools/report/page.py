"""The report of a reproduction: tables, figures, claims and how it was run, from the logs alone.

``python -m pycaffe_tools.report results/epfl`` writes below that folder

=====================  ========================================================
``report.html``        self-contained page
``report.md``          the same as Markdown
``claims.json``        each claim of the paper with verdict, rule and numbers
``tables/*.csv, *.md``  each table
``figures/*.png``      Figures 3 and 4, and the numbers of Figure 3 as CSV
=====================  ========================================================

It runs no net and reads no clock, so equal logs give equal bytes (with the
same version of matplotlib, which draws the pictures).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from statistics import mean
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..base.progress import duration
from ..nets import paper as networks
from .curve import gains, table_curve
from .figures import has_input
from .front import pruning_or_scratch, table_front, verdicts as verdicts_of_front
from .judging import claim as verdicts
from .judging.claim import Claim, statements
from .markup import Block, Bullets, Heading, Listing, Paragraph, Picture
from .results import Results
from .tables import all_tables, with_interval
from .verdicts import shown

NAMED = 12
"""Runs that are not done are named up to so many, and counted beyond."""


# -- the page --------------------------------------------------------------------------------------------------

def blocks_of(results: Results, judged: List[Claim], drawn: Mapping[str, bool]) -> Tuple[str, List[Block]]:
    """Title and content of the report."""
    data, scale = results.plan["data_set"], results.plan["scale"]
    title = f"Reproduction of Roels et al., ISBI 2017, on {data['title']}"
    tables = {table.name: table for table in all_tables(results)}
    of_paper, controls = ([claim for claim in judged if claim.control == control] for control in (False, True))
    distinct = statements(judged)
    counts = {verdict: sum(found == verdict for found in distinct.values())
              for verdict in (verdicts.REPRODUCED, verdicts.NOT_REPRODUCED, verdicts.UNDECIDED, verdicts.NOT_RUN)}
    page: List[Block] = [
        Heading(1, title),
        Paragraph("Convolutional neural network pruning to accelerate membrane segmentation in electron microscopy: J. "
                  "Roels, J. De Vylder, J. Aelterman, Y. Saeys, W. Philips, ISBI 2017, arXiv:1810.09735. All networks "
                  "were trained, pruned and run with Caffe 1.0 by the code of this repository."),
        Paragraph(f"Scale: {scale['name']}. Of {len(distinct)} statements of the paper, "
                  + ", ".join(f"{count} {'is' if count == 1 else 'are'} {verdict}"
                              for verdict, count in counts.items() if count)
                  + ". A statement that is judged in several readings counts once, as undecided where they disagree."),
    ]
    missing = results.missing()
    if missing:
        page.append(Paragraph(_incomplete(results, missing)))
    if drawn["curve"]:
        page += [Heading(2, "How long to train"), Picture("figures/curve.png", gains(results)), table_curve(results)]
    page += [Heading(2, "Claims of the paper"),
             Paragraph("Each verdict is computed from the numbers by the rule under it. Reproduced: the interval of every "
                       "figure of the claim lies in the range of the rule; not reproduced: one lies outside, at a level that "
                       "holds for all figures of the claim together (Bonferroni); undecided: neither. " + _intervals(results))]
    page += [shown(claim) for claim in of_paper]
    page += [Heading(2, "Networks"), tables["table1"], tables["table2-accuracy"], tables["table2-cost"],
             Paragraph(_timing_text(results)), tables["segmentation"], Heading(2, "Controls"),
             Paragraph(_controls_text(results)), tables["controls"], *(shown(claim) for claim in controls),
             tables["definitions"], *(tables[name] for name in ("stability", "transfer") if tables[name].rows)]
    if drawn["figure3"]:
        page += [Heading(2, "Figure 3"), Picture("figures/figure3.png", _figure_3_caption(results))]
    if drawn["figure4"]:
        page += [Heading(2, "Figure 4"), Picture("figures/figure4.png", _figure_4_caption(results))]
    if table_front(results).rows:
        page += [Heading(2, "The best network for a given time"),
                 *([Picture("figures/front.png", _FRONT_CAPTION)] if drawn["front"] else []), table_front(results),
                 Bullets([*verdicts_of_front(results), *filter(None, [pruning_or_scratch(results)])])]
    page += [Heading(2, "What differs from the paper"), Bullets(_differences(results)),
             Heading(2, "What was run"), Bullets(_run_facts(results)), Listing("Commands", _commands(results)),
             Listing("Code, data and weights", _hashes(results))]
    return title, page


def _incomplete(results: Results, missing: List[str]) -> str:
    stage_of = {node["name"]: node["stage"] for node in results.plan["nodes"]}
    by_stage = Counter(stage_of[name] for name in missing)
    names = ", ".join(missing) if len(missing) <= NAMED else ", ".join(
        f"{count} of the stage {stage}" for stage, count in by_stage.items())
    return (f"Not complete: {len(missing)} of {len(stage_of)} runs are not done ({names}), so some cells are empty and some "
            f"statements not judged.")


def _intervals(results: Results) -> str:
    """What the numbers in brackets are."""
    sampled = ("Each seed holds out groups of slices of its own, so that the seeds sample tissue as well as weights and "
               "batches." if results.has_folds else
               "At this scale all seeds share one split, so that the intervals do not hold what other slices would change.")
    return ("In square brackets: the two-sided 95 % interval of Student's t over the seeds, then the number of seeds; differences "
            f"are paired by seed. {sampled} The error within a seed is that of the validation patches as a sample, clustered by "
            "runs of neighbouring slices; it is given for information. One seed alone has no interval, so nothing is decided by "
            "it. Each claim is tested by itself at 5 %: of twenty true ones, one may be expected to fail by chance.")


_FRONT_CAPTION = ("Not in the paper: accuracy after retraining against time, for ways of making a small network that all get the "
                  "same total of training; bands are 95 % intervals over the seeds.")


def _timing_text(results: Results) -> str:
    timing = results.result("timing")
    if timing is None:
        return "Times were not measured."
    some = next(iter(timing["models"].values()))
    tile = some["patch"]["tile"]
    return (f"T patch by patch: {tile[0] * tile[1]:,} patches in Caffe, multiplied up to {timing['pixels']:,}; T dense: one "
            f"tile of {some['dense']['tile'][0]} x {some['dense']['tile'][1]} pixels in {some['dense']['engine']}, which "
            f"gives the same probabilities; shortest of {some['patch']['repetitions']} repetitions, one thread on "
            f"{timing['processor']}. The paper's T is of a GeForce GTX 1080. M is what Caffe logs as memory required for "
            f"data with a batch of 1.")


def _controls_text(results: Results) -> str:
    return ("Not in the paper: networks of the same counts whose features were chosen at random, or that were trained from "
            "random weights, and N itself, retrained without pruning. Networks of the same counts had the same retraining. For "
            "networks from scratch the accuracy before retraining is that after training.")


def _figure_3_caption(results: Results) -> str:
    scale = results.plan["scale"]
    return (f"Training loss against the number of discarded features, in the order of Equations 2 and 3, on "
            f"{scale['batches']} x {scale['batch_size']} patches of the training set. One panel a layer, one line a "
            f"network, in which the layers below are already pruned; in c1 nothing is, so the lines of all networks are one."
            + (f" Means over up to {len(results.seeds)} seeds, with bands of 95 %." if results.has_folds else ""))


def _figure_4_caption(results: Results) -> str:
    data = results.plan["data_set"]
    y0, y1, x0, x1 = data["crop"]
    what = (f"page {data['shown'][0]} of {data['raw']} (validation), rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1}; masks "
            f"at the threshold of the best F1 on the {'other ' if results.has_folds else ''}segmented slices")
    if has_input(results):
        return f"Input, probability of membrane and mask: {what}. Micrograph: {data['citation']} Licence: {data['licence']}"
    return (f"Probability of membrane and mask: {what}. The terms of the micrographs are not established, so they are not "
            f"shown. Data: {data['citation']}")


def _differences(results: Results) -> List[str]:
    scale, data = results.plan["scale"], results.plan["data_set"]
    nodes = results.plan["nodes"]
    lengths = sorted({node["iterations"] for node in nodes if node.get("step") == "trained"})
    again: Dict[Tuple[int, float], List[str]] = {}
    for node in nodes:
        if node.get("step") == "retrained" and node["network"] != "N":
            again.setdefault((node["iterations"], node["base_lr"]), []).append(node["network"])
    return [
        f"Data: {data['title']} instead of the paper's own, unpublished stack of 3069 x 2301 x 689 voxels; "
        f"{data['main']['text']}.",
        f"Split: {_split(results)}. The paper does not say how its sets were split.",
        f"Patches: {scale['train_patches']:,} for training and {scale['val_patches']:,} for validation; the paper has "
        f"300,000 and 300,000.",
        f"Training: {', '.join(f'{length:,}' for length in lengths)} iterations of 128 patches; retraining: "
        + "; ".join(f"{length:,} at a learning rate from {rate:g} ({', '.join(sorted(set(nets)))})"
                    for (length, rate), nets in sorted(again.items()))
        + ". The paper gives no lengths and for retraining no rate.",
        f"Loss of the pruning criterion: mean over {scale['batches']} mini-batches of {scale['batch_size']} patches, without "
        f"the penalty of Equation 1; the paper gives no numbers.",
        "Sparsity: the paper's reference [16] is read in two ways, as the average fraction of zeros after the ReLU (APoZ) "
        "and as the L1 norm of a filter.",
        "Time: one core of the processor named below instead of a GeForce GTX 1080.",
    ] + _sparsity_differs(results)


def _split(results: Results) -> str:
    """What each seed holds out."""
    if not results.has_folds:
        return str(results.plan["data_set"]["split"])
    splits = [node["split"] for node in results.plan["nodes"] if node["kind"] == "database" and "-main-" in node["name"]]
    return "by groups of neighbouring slices, each held out by one seed at most: " + "; ".join(splits)


def _sparsity_differs(results: Results) -> List[str]:
    """The largest disagreement of numbers, where there is one: the smallest network by sparsity."""
    after, before = ({title: results.accuracies(networks.SMALLEST, criterion, before=before) for criterion, title in
                      (("apoz", "APoZ"), ("l1", "L1"))} for before in (False, True))
    paper = networks.TABLE_2[networks.SMALLEST].accuracy_sparsity
    if not all(after.values()) or all(abs(mean(values.values()) - paper) < 1 for values in after.values()):
        return []
    return [f"{networks.SMALLEST} by sparsity: " + " and ".join(
        f"{with_interval(values)} % ({title}; {with_interval(before[title])} % before retraining)"
        for title, values in after.items()) + f" where the paper has {paper:.2f} %. Before retraining these networks are "
        f"far from N, and {results.iterations(networks.SMALLEST, 'apoz'):,} iterations do not make up for it; the paper's retraining "
        f"was presumably longer, or its reference [16] orders features in a third way."]


def _wall(sessions: Sequence[Mapping[str, Any]]) -> float:
    """Seconds in which at least one session ran; several may work on one store at the same time."""
    spans = []
    for session in sessions:
        start = datetime.strptime(session["started"], "%Y-%m-%d %H:%M UTC")
        spans.append((start, start + timedelta(seconds=session.get("seconds", 0))))
    wall, until = timedelta(), datetime.min
    for start, end in sorted(spans):
        wall += max(end, until) - max(start, until)
        until = max(end, until)
    return wall.total_seconds()


def _run_facts(results: Results) -> List[str]:
    machine, nodes = results.machine, list(results.nodes.values())
    sessions = machine["sessions"]
    core_hours = sum(session.get("seconds", 0) * session["processes"] for session in sessions) / 3600
    versions: Dict[str, str] = next((node["result"]["versions"] for node in nodes if node["kind"] == "model"), {})
    commits = sorted({node["code"]["commit"] for node in nodes if node["code"]["commit"]})
    facts = [
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB, "
        f"{machine['system']}.",
        f"Wall time: {duration(_wall(sessions))} in {len(sessions)} session{'s' if len(sessions) != 1 else ''}"
        + (f", the first begun {sessions[0]['started']}" if sessions else "")
        + f"; {core_hours:.1f} core hours (one for each run at a time); {len(nodes)} runs, "
        + f"{duration(sum(node['seconds'] for node in nodes))} in all.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        f"Seeds: {', '.join(map(str, results.plan['scale']['seeds']))}, of the weight fillers and of the draw of the "
        f"mini-batches" + (", and of the patches." if results.has_folds else "; the patches were drawn with seed 0."),
        "Code: commit " + ", ".join(commit[:12] for commit in commits) + ".",
    ]
    database = results.result("data-main") or results.result(f"data-main-s{results.seeds[0]}")
    if database:
        facts.append(f"Membrane is {100 * database['class_balance']:.2f} % of the pixels of the validation slices; grey "
                     f"values are normalised with mean {database['normalisation']['mean']:.2f} and standard deviation "
                     f"{database['normalisation']['std']:.2f} of the training slices.")
    return facts


def _commands(results: Results) -> List[str]:
    lines = ["{em} is the folder of the stacks, {runs} the store of runs; each after python -m pycaffe_tools."]
    for node in results.plan["nodes"]:
        done = results.nodes.get(node["name"])
        seconds = f"{done['seconds']:.0f} s" if done else "not run"
        lines += ["", f"# {node['name']}: {seconds}"] + [" ".join(command) for command in node["commands"]]
    return lines


def _hashes(results: Results) -> List[str]:
    lines = ["SHA-256 of the stacks:"]
    for name in ("data-main", f"data-main-s{results.seeds[0]}", "data-second"):
        database = results.result(name)
        for source in database["sources"] if database else []:
            for part in ("raw", "labels", "exclude"):
                if source.get(part):
                    line = f"{source[part]['sha256']}  {source[part]['path']}"
                    lines += [line] if line not in lines else []
    lines += ["", "SHA-256 of the weights:"]
    lines += [f"{node['result']['files']['weights.caffemodel']}  {node['name']}"
              for node in results.nodes.values() if node["kind"] == "model"]
    lines += ["", "SHA-256 over the sources of pycaffe_tools, by run:"]
    sources: Dict[str, List[str]] = {}
    for node in results.nodes.values():
        sources.setdefault(node["code"]["sources_sha256"], []).append(node["name"])
    return lines + [f"{digest}  {len(names)} runs, such as {names[0]}" for digest, names in sorted(sources.items())]
