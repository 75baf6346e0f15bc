"""The stage graph: typed artefacts, expansion, fingerprints, running once."""
