"""SAM-Lung: areas of tissue from an adapted SAM encoder and pyramid pooling, without prompts."""
