"""python -m analysis.data_report record=<data_report.json> out=<folder>."""

from analysis.data_report.report import main

main()
