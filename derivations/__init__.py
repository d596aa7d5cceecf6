"""SymPy proofs in the paper's order: one file per result, collected by the ledger."""
