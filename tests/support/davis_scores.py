"""Scores of three objects, and their summary computed by hand."""

GLOBAL_COLUMNS = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
STATISTICS = ("Mean", "Recall", "Decay")
OBJECTS = [
    {"J": [0.8, 0.6, 0.0], "F": [1.0, 0.4, 0.2]},
    {"J": [0.2, 0.4, 0.4, 0.6, 1.0], "F": [0.6, 0.6, 0.6, 0.6, 0.1]},
    {"J": [0.1, 0.9], "F": [1.0, 0.0]},
]
HEADLINE = {
    "J&F-Mean": (1.2 / 3 + 2.3 / 3) / 2,
    "J-Mean": (0.7 + 0.4 + 0.1) / 3,
    "J-Recall": (1 + 0.25 + 0) / 3,
    "J-Decay": (0.2 + (0.3 - 0.5) + 0) / 3,
    "F-Mean": (0.7 + 0.6 + 1) / 3,
    "F-Recall": (0.5 + 1 + 1) / 3,
    "F-Decay": (0.6 + 0 + 0) / 3,
}
