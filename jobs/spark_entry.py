"""What spark-submit runs: ``spark-submit --py-files dist/backhaul-VERSION.zip jobs/spark_entry.py VERB CONF --engine spark``
with the arguments of the console script. Master and resources are spark-submit's."""

from jobs.main import main

if __name__ == "__main__":
    main()
