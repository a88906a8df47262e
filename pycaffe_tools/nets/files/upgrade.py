"""Old net files: V1 layers and their names brought to today's schema."""

from __future__ import annotations

from typing import Any, Sequence

from ...base.errors import UserError
from .schema import schema

# V1 enumeration names that are not simply their modern type in capitals.
_V1_NAMES = {name.upper(): name for name in (
    "AbsVal Accuracy ArgMax BNLL Concat ContrastiveLoss Convolution Data Deconvolution Dropout DummyData Eltwise "
    "EuclideanLoss Exp Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct LRN "
    "MemoryData MultinomialLogisticLoss MVN Pooling Power ReLU Sigmoid SigmoidCrossEntropyLoss Silence Slice "
    "Softmax Split TanH Threshold WindowData").split()}
_V1_NAMES["SOFTMAXLOSS"] = "SoftmaxWithLoss"


def upgraded(net: Any) -> Any:
    """A NetParameter with old ``layers`` (V1LayerParameter) translated to ``layer``; the same object if there are none.

    Raises
    ------
    UserError : both forms at once, or the still older form of before 2014.
    """
    old_layers = getattr(net, "layers", ())
    if not old_layers:
        return net
    if net.layer:
        raise UserError(f"net {net.name}: mixes old 'layers' and new 'layer'; use one of them")
    result = schema().NetParameter()
    result.CopyFrom(net)
    del result.layers[:]
    for old in old_layers:
        if old.HasField("layer"):
            raise UserError(f"net {net.name}: is of the form that Caffe used before 2014; "
                            f"convert it with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary first")
        new = result.layer.add()
        for field, content in old.ListFields():
            if field.name == "type":
                name = old.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[content].name
                if name == "NONE":
                    raise UserError(f"layer {old.name}: has no type; correct the file")
                new.type = _V1_NAMES[name.replace("_", "")]
            elif field.name in ("blobs_lr", "weight_decay"):
                _spread(new, "lr_mult" if field.name == "blobs_lr" else "decay_mult", content)
            elif field.name not in new.DESCRIPTOR.fields_by_name or field.name in ("param", "blob_share_mode"):
                raise UserError(f"layer {old.name}: its option {field.name!r} of the old format is not supported; "
                                f"convert the file with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary")
            elif field.label == field.LABEL_REPEATED:
                for item in content:
                    (getattr(new, field.name).add().CopyFrom(item) if field.message_type
                     else getattr(new, field.name).append(item))
            elif field.message_type:
                getattr(new, field.name).CopyFrom(content)
            else:
                setattr(new, field.name, content)
    return result


def _spread(layer: Any, name: str, values: Sequence[float]) -> None:
    for number, value in enumerate(values):
        while len(layer.param) <= number:
            layer.param.add()
        setattr(layer.param[number], name, value)
