"""What spark-submit runs: ``spark-submit --py-files dist/backhaul-VERSION.zip jobs/spark_entry.py VERB CONF --engine spark``
with the arguments of the console script. Master and resources are spark-submit's; the archive is ``make spark-archive``'s,
and the executors' Python has the requirements (an image, or ``--archives``).

Told to stop, this process lets workers finish the part in hand and exits 75. spark-submit itself is a JVM that ends at
once and takes them with it: that costs the parts in hand, and nothing that was written."""

from jobs.main import main

if __name__ == "__main__":
    main()
