"""One drive: recognise it, open it, know its layout and its journal, put it away."""
