"""The deployment runtime: compress and decompress with numpy, constriction, Pillow and one provider, never torch.

``codec.Codec`` joins two halves: ``token_codec.TokenCodec`` (token grids and bytes, exact) and
``networks.pixel_networks`` (images and token grids, tolerant). ``docs/ARCHITECTURE.md`` shows the rooms.
"""
