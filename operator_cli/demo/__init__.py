"""`certcast demo`: the whole system on this machine, one certificate's life."""
