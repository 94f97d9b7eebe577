"""GRM: from E_C, E_U and metadata to E_G (sections 2.3 and 2.4)."""
