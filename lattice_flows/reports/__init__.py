"""Reports of ensembles: tables, figures, the static potential, the Wilson flow."""
