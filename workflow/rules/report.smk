rule grid:
    output:
        "results/grid.txt",
    log:
        "results/logs/grid.log",
    params:
        names=[one.name for one in SPECS],
    run:
        with open(output[0], "w") as file:
            file.write("\n".join(params.names) + "\n")


rule tidy:
    input:
        MEASURED,
        grid="results/grid.txt",
    output:
        "results/measured.csv",
    log:
        "results/logs/tidy.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m fastat tidy --runs {input.grid} --out {output} >> {log} 2>&1"


rule table:
    input:
        "results/measured.csv",
    output:
        expand("results/tables/table{{n}}.{ending}", ending=["csv", "md", "tex"]),
    log:
        "results/logs/table{n}.log",
    conda:
        "../../environment.yml"
    params:
        eps=json.dumps(config["table1_eps"]),
    shell:
        "python -m fastat table --number {wildcards.n} --measured {input} --eps {params.eps:q}"
        " --out results/tables/table{wildcards.n} >> {log} 2>&1"


rule cost:
    output:
        expand("results/tables/cost.{ending}", ending=["csv", "md"]),
    log:
        "results/logs/cost.log",
    conda:
        "../../environment.yml"
    threads: 1
    shell:
        "python -m fastat cost --threads {threads} --out results/tables/cost >> {log} 2>&1"


rule figure:
    input:
        "results/measured.csv",
    output:
        expand("figures/{{name}}.{ending}", ending=["svg", "png"]),
    log:
        "results/logs/figures/{name}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m fastat figure --name {wildcards.name} --measured {input} --out figures/{wildcards.name} >> {log} 2>&1"
