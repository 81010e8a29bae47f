"""When another system is asked again."""

from service.retrying import delay_after


def test_attempts_come_apart_by_twice_as_long_up_to_five_minutes() -> None:
    assert [delay_after(n) for n in (0, 1, 2, 8, 9, 10_000)] == [
        *(1.0, 2.0, 4.0),
        *(256.0, 300.0, 300.0),
    ]
