"""GRM: E_C, E_U and metadata in, E_G out (sections 2.3 and 2.4)."""
