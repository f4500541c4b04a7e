"""How the models of MiniMTIL were made: nothing here runs when they are used."""
