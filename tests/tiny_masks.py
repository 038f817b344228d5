"""Models of every kind of Hugging Face's task mask-generation: small, with random weights."""

import pathlib

import torch
import transformers as hf

SIDE = 64  # pixels of the models' input
KINDS = ("sam", "sam_hq", "sam2", "sam3_tracker", "edgetam")
_LEVELS = [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2]
_PROMPTS = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
_DECODER = {
    "hidden_size": 16,
    "mlp_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
}
_VIT = {
    "hidden_size": 24,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "window_size": 2,
    "global_attn_indexes": [1],
    "mlp_dim": 48,
    "num_pos_feats": 8,
}


def _sam():
    config = hf.SamConfig(
        vision_config=hf.SamVisionConfig(**_VIT),
        prompt_encoder_config=hf.SamPromptEncoderConfig(**_PROMPTS),
        mask_decoder_config=hf.SamMaskDecoderConfig(**_DECODER),
    )
    return hf.SamModel(config)


def _sam_hq():
    config = hf.SamHQConfig(
        vision_config=hf.SamHQVisionConfig(**_VIT),
        prompt_encoder_config=hf.SamHQPromptEncoderConfig(**_PROMPTS),
        mask_decoder_config=hf.SamHQMaskDecoderConfig(**_DECODER, vit_dim=24),
    )
    return hf.SamHQModel(config)


def _sam2():
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 2, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=_LEVELS,
        fpn_hidden_size=16,
    )
    config = hf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=hf.Sam2PromptEncoderConfig(**_PROMPTS),
        mask_decoder_config=hf.Sam2MaskDecoderConfig(**_DECODER),
    )
    return hf.Sam2Model(config)


def _sam3_tracker():
    backbone = hf.Sam3ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=32,
    )
    vision = hf.Sam3VisionConfig(
        backbone_config=backbone, fpn_hidden_size=16, backbone_feature_sizes=_LEVELS
    )
    config = hf.Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config=hf.Sam3TrackerPromptEncoderConfig(**_PROMPTS),
        mask_decoder_config=hf.Sam3TrackerMaskDecoderConfig(**_DECODER),
    )
    return hf.Sam3TrackerModel(config)


def _edgetam():
    of_timm = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = hf.EdgeTamVisionConfig(
        backbone_config=hf.TimmWrapperConfig(architecture="repvit_m1", model_args=of_timm),
        backbone_feature_sizes=_LEVELS,
        fpn_hidden_size=16,
    )
    config = hf.EdgeTamConfig(
        vision_config=vision,
        prompt_encoder_config=hf.EdgeTamPromptEncoderConfig(**_PROMPTS),
        mask_decoder_config=hf.EdgeTamMaskDecoderConfig(**_DECODER),
    )
    return hf.EdgeTamModel(config)


def processor_of(kind):
    """What prepares images for a model of that kind."""
    square = {"height": SIDE, "width": SIDE}
    if kind in ("sam", "sam_hq"):
        return hf.SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)
    if kind == "sam3_tracker":
        return hf.Sam3ImageProcessor(size=square)
    return hf.Sam2ImageProcessor(size=square)


def save(kind: str, folder: pathlib.Path, seed: int = 0) -> str:
    """Writes a model as users have it; its masks differ from point to point."""
    builders = {
        "sam": _sam,
        "sam_hq": _sam_hq,
        "sam2": _sam2,
        "sam3_tracker": _sam3_tracker,
        "edgetam": _edgetam,
    }
    torch.manual_seed(seed)
    model = builders[kind]().eval()
    for weight in model.mask_decoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    processor_of(kind).save_pretrained(folder)
    return str(folder)
