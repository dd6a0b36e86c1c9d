"""Many runs, by any number of processes: a grid or a search over the fields of a config.

space      the values that a field may take
sweepfile  what a sweep's file says
checks     what is looked at before the first trial
folder     a sweep's folder: its trials, and what became of them
tpe        the search by Optuna
desk       who works on which trial
sweep      the loop: a trial after the other, on all ranks
results    the table, sweep.json, sweep.csv and the best config
"""
