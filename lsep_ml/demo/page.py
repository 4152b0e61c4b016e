"""A page to try a classifier on: drop an image, see its scores and labels, move the decision's knob."""

import math
import socket
from pathlib import Path
from typing import Any

from lsep_ml.bundle.classifier import Classifier
from lsep_ml.data.errors import ImageError
from lsep_ml.demo.bars import render_bars
from lsep_ml.demo.knobs import ImageReading, Knob, knob_of, read_image_decision
from lsep_ml.metrics import BY_KEY

try:
    import gradio as gr
except ImportError as error:
    raise ImportError("the page needs gradio: pip install 'lsep-ml[demo]'") from error

STYLES = Path(__file__).parent / "templates" / "demo.css"
SYSTEM_FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
CACHE_SECONDS = 3600
"""How long a dropped image stays on disk while the page runs; none stays when it stops."""


def check_address(host: str, port: int) -> None:
    """Raise OSError unless a server can listen there."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise OSError(f"--host {host} --port {port}: {reason}; give another --port") from error


def serve(classifier: Classifier, host: str, port: int) -> gr.Blocks:
    """Serve the page in threads of its own until `close` of what is returned.

    Nothing is told to anyone: no analytics, no public link, no history, no file from another address.
    """
    page = build_page(classifier)
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        show_error=True,
        quiet=True,
        theme=gr.themes.Base(font=SYSTEM_FONTS, font_mono=("ui-monospace", "monospace")),
        css_paths=[STYLES],
    )
    return page


def build_page(classifier: Classifier) -> gr.Blocks:
    """Build the page, which is not served yet."""
    knob = knob_of(classifier.decision)

    def show_image(path: str | None, value: float) -> tuple[ImageReading | None, dict[str, Any], str]:
        if path is None:
            return None, gr.skip(), ""
        try:
            found = classifier.predict(path)
        except ImageError as error:
            raise gr.Error(str(error).removeprefix(f"{path}: "), print_exception=False) from error
        reading = read_image_decision(classifier.decision, found)
        low, high, step = slider_range(knob, reading, value)
        return reading, gr.update(minimum=low, maximum=high, step=step), show(reading, value)

    def show(reading: ImageReading | None, value: float) -> str:
        if reading is None:
            return ""
        return render_bars(classifier.label_names, reading, reading.moved(value - knob.start))

    with gr.Blocks(
        title="Label an image", analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)
    ) as page:
        gr.Markdown(_heading(classifier))
        reading = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = gr.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    buttons=[],
                )
                slider = gr.Slider(
                    knob.start - 1,
                    knob.start + 1,
                    knob.start,
                    label=knob.name,
                    buttons=["reset"],
                    step=1 if knob.whole else 0.01,
                )
            with gr.Column(scale=3, min_width=420):
                bars = gr.HTML(apply_default_css=False)
        quick: dict[str, Any] = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        image.change(show_image, [image, slider], [reading, slider, bars], **quick)
        slider.change(show, [reading, slider], bars, **quick)
    return page


def slider_range(knob: Knob, reading: ImageReading, value: float) -> tuple[float, float, float]:
    """Return the knob's lowest value, highest value and step: between them an image has all labels, and none."""
    low, high = (knob.start + offset for offset in reading.reach)
    low, high = min(low, value, knob.start), max(high, value, knob.start)
    if knob.whole:
        return low, high, 1
    if reading.probable:
        return 0, 1, 0.01
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)) - 2)
    return math.floor(low / step - 1) * step, math.ceil(high / step + 1) * step, step


def _heading(classifier: Classifier) -> str:
    measured = classifier.parts.measured
    metrics = measured["metrics"]["test"]
    f1, mean_ap = (BY_KEY[key].told(metrics.get(key)) for key in ("f1", "map"))
    return (
        f"# {classifier.parts.source.resolve().name}\n"
        f"{len(classifier.label_names)} labels, trained on {measured['data']} with {measured['loss']} and "
        f"{measured['decision']}; on test {f1}, {mean_ap}."
    )
