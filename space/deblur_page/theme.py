"""Colours and type of Gradio's own parts; style.css does the rest."""

import gradio as gr

COLOURS = {  # of Gradio's own parts; style.css does the rest
    "body_background_fill": ("#f7f6f2", "#151716"),  # in a light and a dark room
    "body_text_color": ("#1b1c1a", "#ecece7"),
    "body_text_color_subdued": ("#5f5f58", "#a5a69e"),
    "background_fill_primary": ("#ffffff", "#1d201f"),
    "background_fill_secondary": ("#eeede7", "#252928"),
    "block_background_fill": ("#ffffff", "#1d201f"),
    "border_color_primary": ("#dfddd4", "#343837"),
    "border_color_accent": ("#b9b7ac", "#4c5250"),
    "button_primary_background_fill": ("#0b6b63", "#58c9b9"),
    "button_primary_background_fill_hover": ("#08544e", "#7cdacc"),
    "button_primary_text_color": ("#ffffff", "#08221e"),
    "button_secondary_background_fill": ("transparent", "transparent"),
    "button_secondary_background_fill_hover": ("#e3efec", "#20332f"),
    "button_secondary_text_color": ("#0b6b63", "#58c9b9"),
    "error_background_fill": ("#fdeeeb", "#3a1d18"),
    "error_border_color": ("#b3402c", "#e0705a"),
    "error_text_color": ("#7d2414", "#f6c5bb"),
}


def theme() -> gr.themes.Base:
    """Colours and type for Gradio's own parts. System fonts only."""
    sans = ("Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("SF Mono", "Menlo", "Consolas", "monospace")
    light = {name: colours[0] for name, colours in COLOURS.items()}
    dark = {f"{name}_dark": colours[1] for name, colours in COLOURS.items()}
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="stone",
        font=[gr.themes.Font(name) for name in sans],
        font_mono=[gr.themes.Font(name) for name in mono],
    ).set(color_accent=light["button_primary_background_fill"], **light, **dark)
