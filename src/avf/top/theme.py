"""Colours and arrangement of the view."""

from textual.theme import Theme

DARK = Theme(
    name="avf-dark", dark=True,
    background="#0f141b", surface="#0f141b", panel="#1b2430", boost="#1b2430",
    foreground="#d5dbe5", primary="#5cb8ff", secondary="#7f93aa", accent="#3ddc84",
    success="#3ddc84", warning="#ffb454", error="#ff6b6b",
    variables={"dim": "#73849a", "rule": "#344154", "cursor": "#1d3a57",
               "footer-background": "#1b2430", "footer-key-foreground": "#5cb8ff"},
)  # fmt: skip
LIGHT = Theme(
    name="avf-light", dark=False,
    background="#fcfcfb", surface="#fcfcfb", panel="#e8edf3", boost="#e8edf3",
    foreground="#1d2733", primary="#0b62bd", secondary="#5b6b7d", accent="#0f7a3a",
    success="#0f7a3a", warning="#9a5600", error="#c02626",
    variables={"dim": "#67768a", "rule": "#b8c3d0", "cursor": "#cfe2f8",
               "footer-background": "#e8edf3", "footer-key-foreground": "#0b62bd"},
)  # fmt: skip

CSS = """
Screen { layout: vertical; background: $background; color: $foreground; }

#summary { height: 1; background: $panel; padding: 0 1; }

#list {
    border-top: solid $rule;
    border-title-color: $foreground;
    border-subtitle-color: $dim;
    border-title-style: bold;
}
#list:focus-within { border-top: solid $primary; border-title-color: $primary; }
VmHead { height: 1; color: $dim; }
VmRows {
    height: 1fr;
    scrollbar-size-vertical: 1;
    overflow-x: hidden;
    scrollbar-color: $rule;
    scrollbar-background: $background;
}
VmRows > .rows--cursor { background: $panel; text-style: bold; }
VmRows:focus > .rows--cursor { background: $cursor; text-style: bold; }
VmRows > .rows--dim { color: $dim; }
VmRows > .rows--good { color: $success; }
VmRows > .rows--busy { color: $warning; }
VmRows > .rows--bad { color: $error; }
VmRows > .rows--curve { color: $primary; }

#middle { height: 8; }
#about { height: 4; border-top: solid $rule; padding: 0 1; }
#curves { height: 4; layout: horizontal; }
Curve { width: 1fr; height: 100%; padding: 0 1; }

#output { height: 1fr; layout: vertical; }
TabBar { height: 1; }
OutputView {
    height: 1fr;
    scrollbar-size-vertical: 1;
    scrollbar-size-horizontal: 1;
    scrollbar-color: $rule;
    scrollbar-background: $background;
    padding: 0 0 0 1;
}
OutputView > .output--match { background: $warning 45%; color: $foreground; }
OutputView > .output--current { background: $warning; color: $background; text-style: bold; }
#note { height: 1fr; padding: 1 2; color: $dim; display: none; }

Prompt { height: 1; display: none; layout: horizontal; background: $panel; }
Prompt.-open { display: block; }
Prompt Label { width: auto; padding: 0 1; color: $primary; text-style: bold; }
Prompt Input { width: 1fr; height: 1; border: none; padding: 0; background: $panel; }

Footer { background: $panel; }

.-zoomed #list, .-zoomed #middle { display: none; }
.-none #middle, .-none #output { display: none; }
#none { height: 1fr; content-align: center middle; }

#middle.-ended #about { height: 8; }
#middle.-ended #curves { display: none; }

.-large #list { border: round $rule; }
.-large #list:focus-within { border: round $primary; }
.-large #middle { height: 10; layout: horizontal; }
.-large #about { width: 5fr; height: 100%; border: round $rule; }
.-large #middle.-ended #about { height: 100%; }
.-large #curves, .-large #middle.-ended #curves { width: 6fr; height: 100%; display: block; }
.-large Curve { border: round $rule; }
.-large #output { border: round $rule; }
.-large #output:focus-within { border: round $primary; }

Dialog { align: center middle; background: $background 60%; }
Dialog > Vertical {
    width: 62;
    max-width: 95%;
    height: auto;
    max-height: 95%;
    border: round $primary;
    background: $panel;
    padding: 1 2;
}
Dialog .buttons { height: auto; align-horizontal: right; margin-top: 1; }
Dialog Button { margin-left: 2; min-width: 12; }
HelpDialog > Vertical { width: 68; }
HelpDialog VerticalScroll {
    height: auto;
    max-height: 100%;
    scrollbar-size-vertical: 1;
    scrollbar-color: $rule;
    scrollbar-background: $panel;
}
"""
