"""With servers: FedAvg and its kin, a few lines each on ``federated.py``; CPFL and QuickDrop."""
