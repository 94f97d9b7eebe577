"""CbRM: from audio or feature vectors to E_C (section 2.1)."""
