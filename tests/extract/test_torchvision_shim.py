"""In processes of their own, because an import happens once."""

import subprocess
import sys

# A torchvision whose import needs an operator, as the real one's does where it was built for CUDA.
PACKAGE = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): ...
"""
DECLARED = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def run(code, *folders):
    lines = [f"import sys; sys.path[:0] = {[str(folder) for folder in folders]!r}", code]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


def package(tmp_path, source):
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    return tmp_path


CALL = "from extract.torchvision_shim import ensure_torchvision as e; print(e(), e())"


def test_missing_operators_are_declared_once(tmp_path):
    where = package(tmp_path, PACKAGE)
    code = """
try:
    import torchvision
except RuntimeError as error:
    print(error)
"""
    assert run(code + CALL, where)[0] == ("operator torchvision::nms does not exist\nTrue False")


def test_a_torchvision_that_works_is_left_alone(tmp_path):
    where = package(tmp_path, DECLARED + PACKAGE)
    assert run(CALL, where)[0] == "False False"


def test_other_failures_are_not_hidden(tmp_path):
    where = package(tmp_path, "raise RuntimeError('another reason')")
    out, err = run(CALL, where)
    assert out == ""
    assert "another reason" in err


def test_no_torchvision_is_no_error(tmp_path):
    hide = "import sys; sys.modules['torchvision'] = None\n"
    assert run(hide + CALL)[0] == "False False"


def test_the_installed_one_imports_with_its_transforms():
    code = "import torchvision.transforms as t; from PIL import Image"
    shape = "print(tuple(t.ToTensor()(Image.new('RGB', (3, 2))).shape))"
    out, err = run(f"{CALL}\n{code}\n{shape}")
    assert out.endswith("(3, 2, 3)"), err
