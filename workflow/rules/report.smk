THEORY = "results/figures/theory.csv"
FIGURE_DATA = [
    file
    for file in expand("results/figures/{name}.csv", name=[*FIGURES, *FIGURE_SIDES])
    if file != THEORY
]
TABLE_FILES = expand(
    "results/tables/{name}.{ending}", name=TABLES, ending=["csv", "md", "tex"]
)


rule grid:
    output:
        "results/config.json",
    log:
        "results/logs/grid.log",
    params:
        config=CONFIG,
    run:
        Path(output[0]).write_text(params.config, encoding="utf-8")


rule tidy:
    input:
        MEASURED,
        config="results/config.json",
    output:
        "results/measured.csv",
        "results/correct.csv",
        "results/evidence.jsonl",
        "results/problems.csv",
    log:
        "results/logs/tidy.log",
    conda:
        "../envs/fastat.yaml"
    shell:
        "python -m fastat tidy --configfile {input.config} --out results >> {log} 2>&1"


rule cost:
    output:
        expand("results/tables/cost.{ending}", ending=["csv", "md"]),
    log:
        "results/logs/cost.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    shell:
        "python -m fastat cost --threads {threads} --out results/tables/cost >> {log} 2>&1"


rule figure_data:
    input:
        MEASURED,
        "results/measured.csv",
        "results/correct.csv",
        "results/evidence.jsonl",
        "results/problems.csv",
        COST,
        config="results/config.json",
    output:
        FIGURE_DATA,
    log:
        "results/logs/figure_data.log",
    conda:
        "../envs/fastat.yaml"
    shell:
        "python -m fastat figure-data --configfile {input.config} >> {log} 2>&1"


rule theory:
    output:
        THEORY,
    log:
        "results/logs/theory.log",
    conda:
        "../envs/fastat.yaml"
    shell:
        "python -m fastat theory --out {output} >> {log} 2>&1"


rule judge:
    input:
        "results/measured.csv",
        "results/correct.csv",
        "results/evidence.jsonl",
        "results/problems.csv",
        FIGURE_DATA,
        config="results/config.json",
    output:
        [
            (
                report(
                    file,
                    category="Tables",
                    caption="../report/tables.rst",
                    labels={"table": Path(file).stem},
                )
                if file.endswith(".csv")
                else file
            )
            for file in TABLE_FILES
        ],
        [
            report(
                file,
                category="Judged",
                caption=f"../report/{Path(file).stem}.rst",
                labels={"what": Path(file).stem},
            )
            for file in JUDGED
        ],
        "results/reproduction.md",
        "results/claims.md",
    log:
        "results/logs/judge.log",
    conda:
        "../envs/fastat.yaml"
    shell:
        "python -m fastat judge --configfile {input.config} >> {log} 2>&1"


rule draw:
    input:
        FIGURE_DATA,
        THEORY,
    output:
        [
            report(
                f"figures/{name}.svg",
                category="Figures",
                caption=f"../report/{name}.rst",
                labels={"figure": name},
            )
            for name in DRAWN
        ],
        expand("figures/{name}.{ending}", name=DRAWN, ending=["png", "txt"]),
    log:
        "results/logs/draw.log",
    conda:
        "../envs/fastat.yaml"
    params:
        names=" ".join(DRAWN),
    shell:
        "python -m fastat draw --data results/figures --out figures --only {params.names} >> {log} 2>&1"


rule page:
    input:
        "results/measured.csv",
        "results/correct.csv",
        "results/evidence.jsonl",
        "results/problems.csv",
        JUDGED,
        rules.draw.output,
    output:
        report(
            "results/report/index.html",
            category="Page",
            caption="../report/page.rst",
            labels={"page": "all results"},
        ),
    log:
        "results/logs/page.log",
    conda:
        "../envs/fastat.yaml"
    shell:
        "python -m fastat page --results results --figures figures --out {output} >> {log} 2>&1"
