"""VLMo: one transformer for pictures, texts, and both together, with an expert for each.

Bao et al. 2022, "VLMo: Unified Vision-Language Pre-Training with Mixture-of-Modality-Experts".
"""
