"""The results as tables: on the terminal, and between the marks of benchmarks/README.md."""


def print_results(results):
    for (scenario, c), each in results.measured.items():
        for name in each:
            f = lambda k: results.of(scenario, c, name, k)
            print(scenario, c, name, "rps %.0f p50 %.1f p99 %.1f app %.0f db %.0f" % (f(lambda m: m.requests_per_second).median, f(lambda m: m.p50_ms).median, f(lambda m: m.p99_ms).median, f(lambda m: m.app_cpu_us).median, f(lambda m: m.database_cpu_us).median), results.ratio(scenario, c, name, next(iter(each)), lambda m: m.app_cpu_us))
    print(results.start_seconds, results.private_mib, results.steady, results.missing, results.minutes)
