"""Why something could not be fetched, in the words of the ledger."""

# Of a detail, in letters: some of it comes from the wire.
LONGEST = 300


class FetchError(Exception):
    """One thing was not fetched.

    Attributes:
        problem: ``missing`` (the server has none), ``refused`` (it will not give it, or we will not
            ask), ``unreachable`` (for the moment), ``unreadable`` (no picture), ``too_large`` or
            ``empty``.
        detail: More, for people.
        again: Whether another attempt may succeed.
        wait: Seconds that the server asks to be left alone; None where it does not.
    """

    def __init__(
        self, problem: str, detail: str, again: bool = False, wait: float | None = None
    ) -> None:
        detail = detail if len(detail) <= LONGEST else f"{detail[:LONGEST]}..."
        super().__init__(f"{problem}: {detail}")
        self.problem, self.detail, self.again, self.wait = problem, detail, again, wait
