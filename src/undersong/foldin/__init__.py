"""New artists and tracks in a trained run, without training (beyond the paper)."""

from undersong.foldin.encoders import Encoders, audio_unavailable, ears_of, open_encoders

__all__ = ["Encoders", "audio_unavailable", "ears_of", "open_encoders"]
