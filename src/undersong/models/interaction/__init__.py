"""UiRM: from plays to E_U (section 2.2)."""
