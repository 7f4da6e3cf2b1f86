"""The commands `ensue check` and `ensue graph`: the findings and the graph of a pipeline that does not run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....events.errors import PipelineInvalid
from ..exit_codes import FAILED, OK, Stopped, report_error

if TYPE_CHECKING:
    from ....events.pipelines.check import Finding
    from ....events.pipelines.pipeline import Pipeline

__all__ = ["check_pipeline", "print_findings", "refuse_errors", "write_graph"]


def check_pipeline(target: str, *, as_json: bool) -> int:
    """Print the findings. The exit code is 1 if there are errors."""
    from ....events.pipelines.check import Finding
    from ..target import load

    try:
        pipeline = load(target)
    except PipelineInvalid as error:
        finding = Finding("declaration", "error", str(error), "correct the declaration")
        return _report(None, [finding], as_json=as_json)
    return _report(pipeline, pipeline.check(), as_json=as_json)


def refuse_errors(pipeline: "Pipeline") -> None:
    """Print the findings of the check; stop the command if there are errors."""
    findings = pipeline.check()
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        for finding in errors:
            report_error(f"pipeline {pipeline.name}: {finding.message}; {finding.hint} [{finding.code}]")
        raise Stopped(FAILED)
    print_findings(findings, to_stderr=True)


def write_graph(target: str, form: str, output: Path | None) -> int:
    """Write the graph as mermaid, json, dot or svg. Stops the command if the file cannot be written."""
    from ....events.drawing import text as draw
    from ..target import load

    graph = load(target).graph()
    formats = {"mermaid": draw.mermaid, "dot": draw.dot, "svg": draw.svg}
    text = formats[form](graph) if form in formats else graph.to_json()
    text = text if text.endswith("\n") else text + "\n"
    if output is None:
        sys.stdout.write(text)
        return OK
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        report_error(f"--output {output} cannot be written: {error.strerror or error}")
        raise Stopped(2) from None
    return OK


def _report(pipeline: "Pipeline | None", findings: "list[Finding]", *, as_json: bool) -> int:
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        _print_json(pipeline, findings, errors)
    else:
        print_findings(findings)
        _print_summary(pipeline, errors, len(findings) - errors)
    return FAILED if errors else OK


def _print_json(pipeline: "Pipeline | None", findings: "list[Finding]", errors: int) -> None:
    from ...schemas.pipelines import FindingOut
    from ..terminal.output import print_document

    document: dict[str, Any] = {
        "pipeline": None if pipeline is None else pipeline.name,
        "version": None if pipeline is None else pipeline.graph().version,
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [FindingOut.of(finding).model_dump(mode="json") for finding in findings],
    }
    print_document(document)


def print_findings(findings: "list[Finding]", *, to_stderr: bool = False) -> None:
    """Print each finding on one line."""
    from rich.text import Text

    from ..terminal.output import say, stderr, stdout

    console = stderr() if to_stderr else stdout()
    for finding in findings:
        style = "bold red" if finding.severity == "error" else "bold yellow"
        parts = (finding.severity, style), f": {finding.message}; {finding.hint} ", (f"[{finding.code}]", "dim")
        say(console, Text.assemble(*parts))


def _print_summary(pipeline: "Pipeline | None", errors: int, warnings: int) -> None:
    from rich.text import Text

    from ..terminal.output import say, stdout

    if pipeline is None:
        return
    events = sum(1 for _ in pipeline.graph().events())
    size = f"{_count(len(pipeline.steps), 'step')}, {_count(events, 'event type')}"
    verdict = "no findings" if not errors + warnings else f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    style = "red" if errors else "yellow" if warnings else "green"
    say(stdout(), Text.assemble((pipeline.name, "bold"), f": {size}: ", (verdict, style)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
