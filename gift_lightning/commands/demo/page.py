"""The page of the command ``demo``. Gradio is an optional package: it is imported where it is used."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gift_lightning.commands.demo.answer import GUIDE, answer
from gift_lightning.commands.demo.tables import STYLE, message
from gift_lightning.errors import InputError
from gift_lightning.runs.kept_models import KeptModels

TEMPLATE = "a photo of a {}."
"""The prompt that the page begins with."""

_TITLE = "A look at the model"
_HEAD = (
    f"<h1>{_TITLE}</h1><p>Classification of one image by the pre-trained CLIP and by the models after each task.</p>"
)
_IMAGE_STYLE = ".image-frame img {width: 100%; height: 100%; object-fit: contain}"
"""A small image is shown large."""


@contextmanager
def serve(runs: Mapping[str, KeptModels], port: int | None) -> Iterator[str]:
    """Serve the page of runs to this machine; its address, for the time of the context.

    Args:
        runs: by name.
        port: of 127.0.0.1; ``None`` for the first one that is free from 7860 on.

    Raises:
        InputError: the port is in use.
    """
    # both before the import
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # for the images
        import gradio

        # Gradio's own fonts come from Google
        theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        page = _page(runs)
        try:
            _, address, _ = page.launch(
                server_name="127.0.0.1",
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                enable_monitoring=False,
                footer_links=[],
                theme=theme,
                css=STYLE + _IMAGE_STYLE,
            )
        except OSError as error:
            fault = "No port from 7860 to 7959 is free" if port is None else f"Port {port} is in use"
            raise InputError(f"{fault}: name another with --port.") from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def _page(runs: Mapping[str, KeptModels]) -> Any:
    """Image, class names and prompts on the left, the answers of all runs beside them."""
    import gradio

    def reply(file: dict[str, Any] | None, class_names: str | None, templates: str | None) -> str:
        return answer(runs, Path(file["path"]) if file else None, class_names or "", templates or "")

    with gradio.Blocks(title=_TITLE, analytics_enabled=False) as page:
        gradio.HTML(_HEAD)
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                image = gradio.Image(label="Image", type="filepath", sources=["upload", "clipboard"], height=260)
                names = gradio.Textbox(
                    label="Class names", info="One a line, or one line with commas.", lines=4, max_lines=10
                )
                ask = gradio.Button("Classify", variant="primary")
                with gradio.Accordion("Prompts", open=False):
                    templates = gradio.Textbox(
                        TEMPLATE, label="Templates", info="One a line, with {} for the class name; averaged.", lines=2
                    )
            with gradio.Column(scale=3, min_width=320):
                shown = gradio.HTML(message(GUIDE))
        gradio.on(
            [ask.click, names.submit, templates.submit, image.change],
            reply,
            [image, names, templates],
            shown,
            preprocess=False,  # the file is read as all images of the program are
            api_visibility="private",
        )
    return page
