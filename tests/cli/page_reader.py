"""Read pages strictly, and measure them in a browser."""

import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "link", "img"}
LINKS = {"href", "src", "srcset", "action", "formaction", "data", "poster", "background", "xlink:href"}
MARKUP = {  # what would be markup -> what may be read of it
    text: text
    for text in (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onfocus='alert(1)",
        "</style></title></td></table><h1>",
        "<!--",
        "]]>",
        "&lt;b&gt; &amp; &#0;",
        "javascript:alert(1)",
        "{{7*7}} ${x} {0}",
    )
}
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"
# WCAG 2.2: relative luminance, and the ratio of what is read to what is behind it; [ratio, text] of the lowest.
LOWEST_CONTRAST = """(() => {
  const colour = s => { const c = s.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor);
    if (c[3] == 1) return c } return [255, 255, 255, 1] };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim()) continue;
    const [a, b] = [light(colour(getComputedStyle(node.parentElement).color)), light(behind(node.parentElement))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.data]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()"""


@dataclass
class Node:
    """An element as a strict reader sees it."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> "list[Node]":
        inside = [found for child in self.children if isinstance(child, Node) for found in child.all(tag, **attributes)]
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        is_found = tag in ("", self.tag) and wanted.items() <= self.attributes.items()
        return [self, *inside] if is_found else inside

    def one(self, tag: str = "", **attributes: str) -> "Node":
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Reader(HTMLParser):
    """Refuses what is not closed, or closed twice."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("")
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), attrs
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
