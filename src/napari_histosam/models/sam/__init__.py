"""Decoder `sam`: Segment Anything with ViT-B, L and H encoders, and MobileSAM's ViT-T."""
