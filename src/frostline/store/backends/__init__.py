"""How studies are reached: Optuna's storages, the tables of a database, and what is said when one fails."""
