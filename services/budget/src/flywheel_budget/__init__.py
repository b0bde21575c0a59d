"""The budget service: counts what is spent, grants leases, tells where budgets stand."""
