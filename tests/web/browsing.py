"""How the tests of the page look at it."""

import json
from typing import Any

TOKEN = "a-token-for-tests-that-is-long-enough-0123456789"


class Visit:
    """A reader with a language and a theme.  What left the machine or went wrong is kept."""

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        language: str = "en",
        theme: str = "light",
        width: int = 1280,
    ) -> None:
        size = {"width": width, "height": 860}
        self.context = browser.new_context(
            viewport=size, locale=language, reduced_motion="reduce", base_url=address
        )
        chosen = {"luthier.theme": theme, "luthier.language": language}
        self.context.add_init_script(
            f"for (const [name, value] of Object.entries({json.dumps(chosen)}))"
            " localStorage.getItem(name) ?? localStorage.setItem(name, value)"
        )
        self.outside: list[str] = []
        self.problems: list[str] = []
        self.context.route("**/*", self._only_here)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._hear)
        self.address, self.visits = address, 0

    def _only_here(self, route: Any) -> None:
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _hear(self, message: Any) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            self.problems.append(f"{message.text} {message.location.get('url', '')}")

    def login(self) -> "Visit":
        """As a person does: the token, once."""
        answer = self.context.request.post("/api/login", data={"token": TOKEN})
        assert answer.ok, answer.text()
        return self

    def go(self, place: str) -> Any:
        """Open a view by its address, as a bookmark does, and wait until it is drawn."""
        self.visits += 1
        self.page.goto(f"{self.address}/?{self.visits}#/{place}")
        return self.drawn()

    def turn(self, place: str) -> Any:
        """Go to a view without loading the page again, as a link does."""
        self.page.evaluate("place => { location.hash = '#/' + place }", place)
        return self.drawn()

    def drawn(self) -> Any:
        """Wait until what is asked for is there."""
        self.page.wait_for_selector("h1")
        self.page.locator(".loading").first.wait_for(state="detached")
        return self.page

    def close(self) -> None:
        """Nothing may have gone wrong, and nothing may have asked another machine."""
        self.context.close()
        assert self.outside == []
        assert self.problems == []


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Any, axe: str) -> list[Any]:
    """What axe finds serious or critical in either theme, with the elements."""
    found: list[Any] = []
    page.evaluate(axe)
    before = page.evaluate("document.documentElement.dataset.theme")
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        asked = "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})"
        found += [
            (theme, one["id"], node["target"], node["failureSummary"])
            for one in page.evaluate(asked, RULES)["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", before)
    return found
