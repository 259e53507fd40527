"""Write the table of settings into docs/deployment.md, from the fields of `serving.api.settings.Settings`.

python -m deploy.settings_table
"""

from pathlib import Path

from serving.api.settings import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "docs" / "deployment.md"
BEGIN, END = "<!-- settings: make docs -->", "<!-- end of settings -->"
OTHERS = {  # variables that are read by libraries
    "OTEL_EXPORTER_OTLP_ENDPOINT": "endpoint for traces; without it or `..._TRACES_ENDPOINT`, no traces are made",
    "PROMETHEUS_MULTIPROC_DIR": "folder for the metrics of several processes; the server sets it for its workers",
    "FORWARDED_ALLOW_IPS": "proxies whose `X-Forwarded-For` is trusted; 127.0.0.1 unless set",
}


def table() -> str:
    """Return the table as Markdown."""
    rows = []
    for name, field in Settings.model_fields.items():
        known = name not in ("models", "api_keys_file") and field.default not in (None, ())
        default = str(field.default) if known else ""
        values = "" if name in ("models", "api_keys_file", "cors_origins") else Settings.allowed(name)
        rows.append((f"`{PREFIX}{name.upper()}`", field.description or "", default, values))
    rows += [(f"`{name}`", text, "", "") for name, text in OTHERS.items()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["| variable | what it sets | default | values |", "| --- | --- | --- | --- |", *lines])


def page_with(table: str) -> str:
    """Return docs/deployment.md with `table` in place of its current table."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()))
