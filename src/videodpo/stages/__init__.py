"""The steps of the pipeline, each named after its rule; stages exchange files only."""
