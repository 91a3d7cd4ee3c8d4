"""What the report consists of, by name. Standard library only: the Snakefile reads it."""

TABLES = ("table1", "table2", "table3", "table4", "table5", "supplement")
FIGURES = (
    "curves", "accuracy_by_eps", "collapse_map", "cost_robustness", "theory",
    "fig01", "fig02", "fig03", "fig04", "fig05", "fig06", "fig07", "fig08", "fig09", "fig10", "fig11",
)  # fmt: skip
FIGURE_SIDES = ("fig06_ranks", "surfaces")  # data beside them that claims and page need
